"""A stage of `zoo.predict.multi_step` that learns from the stream itself: the normalisations' scales and shifts.

Entropy minimisation (Wang et al., "Tent: fully test-time adaptation by entropy minimization", 2021), on examples that
are confident enough to be right about themselves (Niu et al., "Efficient test-time model adaptation without
forgetting", 2022, section 3.2). A step is the engine's own, with its clipping and its check for what is not finite.
"""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo import Batches, Term
from zoo.engine import optimizers, schedules
from zoo.engine.engine import Engine
from zoo.engine.state import array
from zoo.errors import BadInput
from zoo.models.layers import BatchNorm
from zoo.predict import guards
from zoo.predict.copies import Classifier
from zoo.predict.multi_step import Forward, Seen
from zoo.predict.predictor import Predictor
from zoo.predict.source import Source

_NORMS = (BatchNorm, keras.layers.BatchNormalization, keras.layers.LayerNormalization)
# Entropies below this share of the largest one count: EATA's and SAR's margin.
_MARGIN = 0.4


class Parameters:
    """Learns scale and shift of the normalisations, after `Statistics` where there are any to fit.

    Args:
        learning_rate: of Adam, as in Tent.
        steps: on the recent examples, for each batch of the stream.
        memory: most recent examples that are learned from; a fixed size, so that it is compiled once.
    """

    name, on = "parameters", "model"
    # One step moves little.
    limit, anew = 1.0, False

    def __init__(self, learning_rate: float = 1e-3, steps: int = 1, memory: int = 400):
        self._rate, self._count, self._memory = learning_rate, steps, memory

    def begin(self, predictor: Classifier, source: Source) -> None:
        """Makes the engine.

        Raises:
            BadInput: the model has no normalisation.
        """
        layers = [layer for layer in predictor.model.layers if isinstance(layer, _NORMS)]
        if not isinstance(predictor, Predictor) or not layers:
            raise BadInput("--refine=parameters: the model has no normalisation; train one with --norm=batch or layer")
        for layer in predictor.model.layers:
            layer.trainable = layer in layers
        self._predictor, self._step, self._guards = predictor, 0, guards.Guards(source)
        optimizer = optimizers.make("adam", schedules.make("constant", self._rate, decay_steps=1), None)
        self._engine = Engine(
            # The copy was made under no other.
            tf.distribute.get_strategy(),
            predictor.model,
            _entropy,
            ("loss",),
            optimizers.groups(predictor.model, optimizer),
            clip_norm=1.0,
            steps_per_loop=self._count,
        )
        self._variables = [*predictor.model.trainable_variables, *optimizer.variables]

    def propose(self, seen: Seen) -> str:
        """Takes the steps on what was seen last."""
        batches = self._batches(seen.recent)
        found = self._engine.train(batches, self._step, self._count)
        self._engine.forget(batches)
        self._step += self._count
        if not found["loss/weight"].any():
            return "no example is confident enough"
        # Sureness is what is trained here, so it proves nothing; that the answers get like those of validation does.
        distances = [self._guards.score(logits).distance for logits in (seen.logits, seen.forward(seen.recent))]
        return "" if distances[1] < distances[0] else "the answers get less typical"

    def logits(self, examples: Any, inner: Forward) -> np.ndarray:
        """Those of the changed model."""
        return inner(examples)

    def state(self) -> Any:
        """Scales, shifts, the optimizer's moments and the number of the next step."""
        return [array(variable) for variable in self._variables], self._step

    def load(self, state: Any) -> None:
        """Sets them."""
        values, self._step = state
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)

    def _batches(self, recent: Any) -> Batches:
        examples = self._predictor.prepared(recent[-self._memory :])
        x = np.zeros((self._memory, *examples.shape[1:]), examples.dtype)
        x[: len(examples)] = examples
        return Batches({"x": x, "real": (np.arange(self._memory) < len(examples)).astype(np.float32)}, self._memory)


def _entropy(model: keras.Model, batch: dict[str, tf.Tensor], training: bool) -> dict[str, Term]:
    """The mean entropy of confident answers; statistics are those that are set, so nothing else changes."""
    logits = tf.cast(model(batch["x"], training=False), tf.float32)
    logs = tf.nn.log_softmax(logits)
    entropy = -tf.reduce_sum(tf.exp(logs) * logs, axis=-1)
    confident = tf.cast(tf.stop_gradient(entropy) < _MARGIN * math.log(logits.shape[-1]), tf.float32)
    return {"loss": Term(entropy, confident * batch["real"])}
