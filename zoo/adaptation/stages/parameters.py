"""A stage of `zoo.adaptation.refiner` that learns from the stream itself: the normalisations' scales and shifts.

What is learned by is one of `zoo.adaptation.stages.losses`: entropy minimisation (Wang et al., "Tent: fully test-time
adaptation by entropy minimization", 2021) on examples that are confident enough to be right about themselves, where the
loss is flat (SAR), on examples unlike those before (EATA), or a slow teacher (CoTTA). A step is the engine's own, with
its clipping and its check for what is not finite.
"""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.adaptation import guards
from zoo.adaptation.refiner import Forward, StreamContext
from zoo.adaptation.stages import views
from zoo.adaptation.stages.losses import TENT, AdaptationLoss, MeanTeacher
from zoo.data.batches import Batches
from zoo.engine import optimizers, schedules
from zoo.engine.engine import Engine
from zoo.engine.state import array
from zoo.errors import BadInput
from zoo.metrics.logits import class_probabilities, two_class_logits
from zoo.models.layers import BatchNorm
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.array_classifier import ArrayClassifier
from zoo.predict.predictors.cloning import copied
from zoo.predict.predictors.predictor import Classifier

_NORMS = (BatchNorm, keras.layers.BatchNormalization, keras.layers.LayerNormalization)
# Of what was before, in the mean answer (EATA's) and in the mean entropy (SAR's).
_KEPT = 0.9


class Parameters:
    """Learns scale and shift of the normalisations, after `Statistics` where there are any to fit.

    Args:
        learner: what is learned by.
        steps: on the recent examples, for each batch of the stream.
        memory: most recent examples that are learned from; a fixed size, so that it is compiled once.
        reset_every: after so many steps all that was learned is forgotten, by which a long stream cannot ruin the model
            (Press et al., "RDumb: a simple approach that questions our progress in continual test-time adaptation",
            2023, section 4: 1,000); 0 for never. Like every change it stays only where the guards agree.
        seed: of what the teacher's learner forgets.
    """

    name, target = "parameters", "model"
    # One step moves little.
    max_score_ratio, restarts_each_batch = 1.0, False

    def __init__(
        self, learner: AdaptationLoss = TENT, steps: int = 1, memory: int = 400, reset_every: int = 1000, seed: int = 0
    ):
        self._learner, self._count, self._memory = learner, steps, memory
        self._reset_every, self._seed = reset_every, seed

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Makes the engine.

        Raises:
            BadInput: the model has no normalisation.
        """
        layers = [layer for layer in predictor.model.layers if isinstance(layer, _NORMS)]
        if predictor.reads_text or not layers:
            raise BadInput("--refine=parameters: the model has no normalisation; train one with --norm=batch or layer")
        for layer in predictor.model.layers:
            layer.trainable = layer in layers
        self._predictor, self._step, self._guards = predictor, 0, guards.Guards(source)
        self._answers, self._entropy = np.zeros(len(predictor.classes)), 0.0
        self._taught = isinstance(self._learner, MeanTeacher)
        self._model = _learning_copy(predictor) if self._taught else predictor.model
        image = predictor.takes_images
        self._views = views.allowed(predictor, source) if self._taught and image else [views.View()]
        optimizer = optimizers.make(
            self._learner.optimizer, schedules.make("constant", self._learner.learning_rate, decay_steps=1), None
        )
        self._engine = Engine(
            # The copy was made under no other.
            tf.distribute.get_strategy(),
            self._model,
            lambda model, batch, training: {"loss": self._learner.term(model, batch)},
            ("loss",),
            optimizers.groups(self._model, optimizer),
            clip_norm=1.0,
            steps_per_loop=self._count,
        )
        self._variables = [*self._model.trainable_variables, *optimizer.variables]
        # The teacher's own.
        self._variables += predictor.model.trainable_variables if self._taught else []
        self._first = self.state()

    def propose(self, seen: StreamContext) -> str:
        """Takes the steps on what was seen last."""
        before = max(self._step - self._count, 0)
        if self._reset_every and self._step // self._reset_every > before // self._reset_every:
            self._forget()
        batches = self._batches(seen)
        found = self._engine.train(batches, self._step, self._count)
        self._engine.forget(batches)
        self._step += self._count
        if not found["loss/weight"].any():
            return "no example is confident enough" if not self._taught else "no example"
        self._follow(found, seen)
        return self._objection(seen)

    def logits(self, examples: Any, inner: Forward) -> np.ndarray:
        """Those of the changed model."""
        return inner(examples)

    def state(self) -> Any:
        """Scales, shifts, the optimizer's moments, the number of the next step, mean answer and mean entropy."""
        return [array(variable) for variable in self._variables], self._step, self._answers, self._entropy

    def load(self, state: Any) -> None:
        """Sets them."""
        values, self._step, self._answers, self._entropy = state
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)

    def _objection(self, seen: StreamContext) -> str:
        """Sureness is what is trained, so it proves nothing; that the answers get like those of validation does."""
        distances = [self._guards.score(logits).distance for logits in (seen.logits, seen.forward(seen.recent))]
        return "" if distances[1] < distances[0] else "the answers get less typical"

    def _forget(self) -> None:
        """All but the number of the step, which never comes again: draws belong to it."""
        step = self._step
        self.load(self._first)
        self._step = step

    def _follow(self, found: dict[str, np.ndarray], seen: StreamContext) -> None:
        """What goes on from batch to batch beside the steps."""
        if self._taught:
            self._teach()
            return
        entropy = float(found["loss/numerator"].sum() / found["loss/weight"].sum())
        self._entropy = _KEPT * self._entropy + (1 - _KEPT) * entropy if self._entropy else entropy
        answers = class_probabilities(seen.logits).mean(axis=0)
        self._answers = _KEPT * self._answers + (1 - _KEPT) * answers if self._answers.any() else answers
        if self._entropy < self._learner.floor * math.log(len(self._answers)):
            self._forget()

    def _teach(self) -> None:
        """The teacher comes a little after the learner, and some of the learner's weights go back to the source's."""
        draw, teacher = np.random.default_rng([self._seed, self._step]), self._predictor.model.trainable_variables
        for own, followed, first in zip(self._model.trainable_variables, teacher, self._first[0]):
            value, decay = array(own), self._learner.decay
            followed.assign(decay * array(followed) + (1 - decay) * value)
            own.assign(np.where(draw.random(value.shape) < self._learner.restored, first, value))

    def _batches(self, seen: StreamContext) -> Batches:
        recent = seen.recent[-self._memory :]
        examples = self._predictor.prepared(recent)
        columns = {"x": examples, "real": np.ones(len(examples), np.float32)}
        if self._taught:
            # The statistics are fitted to the stream on the model that answers.
            for own, other in zip(self._model.non_trainable_variables, self._predictor.model.non_trainable_variables):
                own.assign(array(other))
            logits = lambda images: two_class_logits(self._predictor.logits(images))  # noqa: E731
            columns["wanted"] = views.averaged(self._views, recent, logits).astype(np.float32)
        else:
            columns["wanted"] = np.tile(self._answers.astype(np.float32), (len(examples), 1))
        missing = self._memory - len(examples)
        filled = {name: _padded(column, missing) for name, column in columns.items()}
        return Batches(filled, self._memory)


def _padded(column: np.ndarray, rows: int) -> np.ndarray:
    return np.concatenate([column, np.zeros((rows, *column.shape[1:]), column.dtype)])


def _learning_copy(predictor: ArrayClassifier) -> keras.Model:
    model = copied(predictor).model
    for own, other in zip(model.layers, predictor.model.layers, strict=True):
        own.trainable = other.trainable
    return model
