"""Test-time training of the normalisation layers (`--refine=parameters`) by a method of the field (`--learner`).

Only scales and shifts learn; with SHOT all layers but the last. The methods are in tent.py, sar.py, eata.py, deyo.py,
roid.py, shot.py, cotta.py and rotta.py; this stage feeds them the recent examples. Each step is one of the training
engine, with its gradient clipping and its check for non-finite values.
"""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.adaptation import guards, image_inputs
from zoo.adaptation.stage import LogitsFn, StreamContext
from zoo.adaptation.stages import rotta, views
from zoo.adaptation.stages.cotta import COTTA, MeanTeacher
from zoo.adaptation.stages.deyo import DEYO, Deyo
from zoo.adaptation.stages.eata import EATA
from zoo.adaptation.stages.features import last_features
from zoo.adaptation.stages.learner import Learner, Recent
from zoo.adaptation.stages.losses import EntropyLoss
from zoo.adaptation.stages.roid import ROID
from zoo.adaptation.stages.sar import SAR
from zoo.adaptation.stages.shot import SHOT
from zoo.adaptation.stages.tent import TENT
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

AdaptationLoss = Learner | MeanTeacher
# By the names of `--learner`.
LEARNERS: dict[str, AdaptationLoss] = {
    **{"tent": TENT, "sar": SAR, "eata": EATA, "cotta": COTTA},
    **{"deyo": DEYO, "roid": ROID, "shot": SHOT, "rotta": rotta.ROTTA},
}

_NORMS = (
    BatchNorm,
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
)
# Decay of the moving averages: EATA's mean probabilities and SAR's mean entropy.
_DECAY = 0.9
_TINY = 1e-12


class Parameters:
    """Learns scale and shift of the normalisation layers; in a plan it follows `BatchStatistics`.

    Args:
        learner: the loss, with its settings: one of `LEARNERS`, or `SAR._replace(radius=0.1)`.
        steps: gradient steps on the recent examples, per batch of the stream.
        memory: most recent examples to learn from; a fixed size, so that the step is compiled once.
        reset_every: steps after which the parameters return to the source's, so that a long stream cannot ruin the
            model (Press et al., "RDumb: a simple approach that questions our progress in continual test-time
            adaptation", 2023, section 4: 1,000); 0: never. Like every change, a reset is kept only if the guards agree.
        seed: seed of what is random: the weights that CoTTA restores, DeYO's patches and RoTTA's views.
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
            BadInput: the model has no normalisation layer, or for SHOT no last dense layer; or the learner is DeYO and
                the model takes no images of its patches' size.
        """
        layers = self._trained_layers(predictor)
        for layer in predictor.model.layers:
            layer.trainable = layer in layers
        self._predictor, self._step, self._guards = predictor, 0, guards.Guards(source)
        self._mean_probabilities, self._mean_entropy = np.zeros(len(predictor.classes)), 0.0
        # The predictor's model answers: with CoTTA it is the teacher, and the engine trains a copy, the student.
        self._has_teacher = isinstance(self._learner, MeanTeacher)
        self._model = _student_of(predictor) if self._has_teacher else predictor.model
        is_image = image_inputs.may_be_images(predictor)
        self._views = views.allowed(predictor, source) if self._has_teacher and is_image else [views.View()]
        optimizer = optimizers.make(
            self._learner.optimizer, schedules.make("constant", self._learner.learning_rate, decay_steps=1), None
        )
        self._engine = Engine(
            # The copy was made under this strategy.
            tf.distribute.get_strategy(),
            self._model,
            lambda model, batch, training: {"loss": self._learner.term(model, batch)},
            ("loss",),
            optimizers.groups(self._model, optimizer),
            clip_norm=1.0,
            steps_per_loop=self._count,
        )
        self._variables = [*self._model.trainable_variables, *optimizer.variables]
        self._variables += predictor.model.trainable_variables if self._has_teacher else []
        self._first = self.state()

    def propose(self, context: StreamContext) -> str:
        """Takes the gradient steps on the most recent examples."""
        before = max(self._step - self._count, 0)
        if self._reset_every and self._step // self._reset_every > before // self._reset_every:
            self._reset()
        batches = self._batches(context)
        sums = self._engine.train(batches, self._step, self._count)
        self._engine.forget(batches)
        self._step += self._count
        if not sums["loss/weight"].any():
            return "no example is confident enough" if not self._has_teacher else "no example"
        if self._has_teacher:
            self._update_teacher()
        else:
            self._move_to_source()
            self._update_averages(sums, context)
        return self._objection(context)

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Logits of the changed model."""
        return inner(examples)

    def state(self) -> Any:
        """Scales, shifts, optimizer slots, number of the next step, mean probabilities and mean entropy."""
        values = [array(variable) for variable in self._variables]
        return values, self._step, self._mean_probabilities, self._mean_entropy

    def load(self, state: Any) -> None:
        """Sets them.

        Raises:
            BadInput: they were learned by another learner.
        """
        values, self._step, self._mean_probabilities, self._mean_entropy = state
        if [value.shape for value in values] != [tuple(variable.shape) for variable in self._variables]:
            raise BadInput("--state: the parameters are of another --learner; expected the same one, or another file")
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)

    def _trained_layers(self, predictor: Classifier) -> list[Any]:
        learner, layers = self._learner, predictor.model.layers
        if isinstance(learner, Deyo):
            learner.check(predictor)
        if learner.trains_features and not predictor.reads_text:
            self._features = last_features(predictor, "--learner=shot")
            return layers[:-1]
        norms = [layer for layer in layers if isinstance(layer, _NORMS)]
        if predictor.reads_text or not norms:
            raise BadInput(
                "--refine=parameters: the model has no normalisation layer; train one with --norm=batch or layer"
            )
        return norms

    def _objection(self, context: StreamContext) -> str:
        """Why the change is refused, or "".

        Confidence is what the loss trains, so it proves nothing; logits closer to those of validation do.
        """
        after = context.forward(context.recent)
        distances = [self._guards.score(logits).distance for logits in (context.logits, after)]
        return "" if distances[1] < distances[0] else "the logits do not get closer to those of validation"

    def _reset(self) -> None:
        """Back to the source's parameters. The number of the step goes on, as random draws depend on it."""
        step = self._step
        self.load(self._first)
        self._step = step

    def _update_averages(self, sums: dict[str, np.ndarray], context: StreamContext) -> None:
        """The moving averages of EATA and SAR; a collapsed entropy resets the model."""
        self._mean_probabilities = _moving_average(
            self._mean_probabilities, class_probabilities(context.logits).mean(axis=0)
        )
        if not isinstance(self._learner, EntropyLoss):
            return
        entropy = float(sums["loss/numerator"].sum() / sums["loss/weight"].sum())
        self._mean_entropy = _moving_average(self._mean_entropy, entropy)
        if self._mean_entropy < self._learner.floor * math.log(len(self._mean_probabilities)):
            self._reset()

    def _move_to_source(self) -> None:
        """Weight ensembling (ROID)."""
        share = self._learner.source_share
        if share:
            for variable, first in zip(self._model.trainable_variables, self._first[0]):
                variable.assign((1 - share) * array(variable) + share * first)

    def _update_teacher(self) -> None:
        student, teacher = self._model.trainable_variables, self._predictor.model.trainable_variables
        self._learner.update(student, teacher, self._first[0], self._draw())

    def _draw(self) -> np.random.Generator:
        return np.random.default_rng([self._seed, self._step])

    def _batches(self, context: StreamContext) -> Batches:
        """One batch of the recent examples, with the columns of the learner, and padding."""
        recent = context.recent[-self._memory :]
        columns = self._columns_of_teacher(recent) if self._has_teacher else self._columns(recent, context)
        missing = self._memory - len(columns["x"])
        padded = {name: _padded(column, missing) for name, column in columns.items()}
        return Batches(padded, self._memory)

    def _columns(self, recent: Any, context: StreamContext) -> dict[str, np.ndarray]:
        x = self._predictor.prepared(recent)
        shown = Recent(
            x,
            context.logits[-len(recent) :],
            self._mean_probabilities,
            lambda: self._features.logits(recent),
            self._draw(),
        )
        return {"x": x, "real": np.ones(len(x), np.float32), **self._learner.columns(shown)}

    def _columns_of_teacher(self, recent: Any) -> dict[str, np.ndarray]:
        """With the teacher's probabilities as `wanted`: of averaged views (CoTTA), or of a memory (RoTTA)."""
        self._copy_statistics()
        logits = lambda images: two_class_logits(self._predictor.logits(images))  # noqa: E731
        if not self._learner.memory:
            wanted, weights, shown = views.averaged(self._views, recent, logits), np.ones(len(recent)), recent
        else:
            probabilities = class_probabilities(logits(recent))
            entropies = -np.sum(probabilities * np.log(np.maximum(probabilities, _TINY)), axis=1)
            size, (_, classes) = min(self._learner.memory, self._memory), probabilities.shape
            rows = rotta.balanced_memory(probabilities.argmax(axis=1), entropies, classes, size)
            wanted, weights = probabilities[rows], rotta.timeliness((len(recent) - 1 - rows) / size)
            # The student's view is one of those that preserve the class.
            shown = self._views[self._draw().integers(len(self._views))].apply(np.asarray(recent)[rows])
        x = self._predictor.prepared(shown)
        return {"x": x, "real": weights.astype(np.float32), "wanted": wanted.astype(np.float32)}

    def _copy_statistics(self) -> None:
        """From the teacher to the student: the stages before fit those of the model that answers."""
        for own, other in zip(self._model.non_trainable_variables, self._predictor.model.non_trainable_variables):
            own.assign(array(other))


def _moving_average(average: Any, value: Any) -> Any:
    """The first value replaces the initial zero."""
    return _DECAY * average + (1 - _DECAY) * value if np.any(average) else value


def _padded(column: np.ndarray, rows: int) -> np.ndarray:
    return np.concatenate([column, np.zeros((rows, *column.shape[1:]), column.dtype)])  # [memory, ...]


def _student_of(predictor: ArrayClassifier) -> keras.Model:
    model = copied(predictor).model
    for own, other in zip(model.layers, predictor.model.layers, strict=True):
        own.trainable = other.trainable
    return model
