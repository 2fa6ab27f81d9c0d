"""A Transformer classifier of texts layer by layer: what each layer makes of a text, and where one may stop."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import BadInput
from zoo.models import encoder_heads, transformer
from zoo.models.layers import Dropout
from zoo.predict.predictors.compiled_programs import CompiledPrograms
from zoo.predict.predictors.text_classifier import TextClassifier
from zoo.predict.predictors.text_inputs import Example


class Hidden(NamedTuple):
    """Rows between two layers, on the device.

    Attributes:
        x: `[rows, time, width]`.
        seen: bool `[rows, time]`, which tokens may be attended to.
    """

    x: tf.Tensor
    seen: tf.Tensor

    def rows(self, chosen: np.ndarray) -> "Hidden":
        """The rows of these numbers."""
        return Hidden(tf.gather(self.x, chosen), tf.gather(self.seen, chosen))


def joined(parts: Sequence[Hidden]) -> Hidden:
    """All rows one after the other."""
    return parts[0] if len(parts) == 1 else Hidden(*(tf.concat(each, axis=0) for each in zip(*parts)))


class LayerwiseEncoder:
    """The model of an encoder with a head as one program for each layer and shape of its inputs.

    The programs share the model's variables, so they follow what a stage changes in it.

    Args:
        model: from `zoo.models.encoder_heads.classifier`.

    Attributes:
        layers: of the encoder.
        width: of what a layer makes of a token.

    Raises:
        BadInput: the model is another, or has one layer.
    """

    def __init__(self, model: keras.Model):
        self._model, self._names = model, {layer.name for layer in model.layers}
        self._blocks = [layer for layer in model.layers if isinstance(layer, transformer.Block)]
        self.layers = len(self._blocks)
        _check(model, self.layers)
        self.width = self._layer("embedding").width
        self._programs = [CompiledPrograms(self._part(number)) for number in range(self.layers)]

    def begin(self, inputs: list[np.ndarray]) -> tuple[Hidden, np.ndarray]:
        """What the first layer makes of the model's inputs, see `follow`."""
        return self._run(0, list(map(tf.constant, inputs)))

    def follow(self, number: int, hidden: Hidden) -> tuple[Hidden, np.ndarray]:
        """One of the layers between the first and the last.

        Args:
            number: of the layer, from 0.
            hidden: what the layer before it made.

        Returns:
            What comes next to the next layer, and float32 `[rows, width]`: pooled as the model pools its last layer,
            the mean over a text's tokens or the first one's vector.
        """
        return self._run(number, list(hidden))

    def finish(self, hidden: Hidden) -> np.ndarray:
        """The last layer and the head: the model's output, float32 `[rows, logits]`."""
        return self._programs[-1](list(hidden)).numpy().astype(np.float32)

    def everything(self, predictor: TextClassifier, texts: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
        """What all layers make of texts.

        Args:
            predictor: whose model this is.
            texts: that it takes.

        Returns:
            Float32 `[layers - 1, texts, width]`, pooled, of each layer but the last; and the model's output.
        """
        pooled = np.zeros((self.layers - 1, len(texts), self.width), np.float32)
        logits = np.zeros((len(texts), self._model.output_shape[-1]), np.float32)
        for chosen, inputs in predictor.fed(texts):
            hidden, found = self.begin(inputs)
            pooled[0, chosen] = found[: len(chosen)]
            for number in range(1, self.layers - 1):
                hidden, found = self.follow(number, hidden)
                pooled[number, chosen] = found[: len(chosen)]
            logits[chosen] = self.finish(hidden)[: len(chosen)]
        return pooled, logits

    def _run(self, number: int, inputs: list[tf.Tensor]) -> tuple[Hidden, np.ndarray]:
        x, seen, pooled = self._programs[number](inputs)
        return Hidden(x, seen), pooled.numpy()

    def _part(self, number: int):
        """One layer: with what comes before it, of the first; with what comes behind it, of the last."""

        def run(inputs):
            if number == 0:
                inputs = [self._layer("embedding")(*inputs), self._layer("seen")(inputs[0])]
            x, seen = inputs
            x, _ = self._blocks[number](x, seen, training=False)
            if number < self.layers - 1:
                return x, seen, tf.cast(self._pooled(x, seen), tf.float32)
            pooled = self._pooled(self._layer("norm")(x) if "norm" in self._names else x, seen)
            return self._layer("head")(self._layer("pooler")(pooled) if "pooler" in self._names else pooled)

        return run

    def _pooled(self, x: tf.Tensor, seen: tf.Tensor) -> tf.Tensor:
        return self._layer("mean")(x, seen) if "mean" in self._names else self._layer("first")(x)

    def _layer(self, name: str) -> keras.layers.Layer:
        return self._model.get_layer(name)


_KINDS = (
    keras.layers.InputLayer,
    transformer.Embedding,
    transformer.PaddingMask,
    transformer.Block,
    transformer.Norm,
    encoder_heads.MeanPooling,
    encoder_heads.ClsPooling,
    Dropout,
    keras.layers.Dense,
)


def _check(model: keras.Model, layers: int) -> None:
    kinds = {type(layer).__name__ for layer in model.layers if not isinstance(layer, _KINDS)}
    if kinds or not layers or any(layer.causal for layer in model.layers if isinstance(layer, transformer.Block)):
        found = ", ".join(sorted(kinds)) or "no block that sees a whole text"
        raise BadInput(f"early exit is for classifiers by a Transformer encoder: the model has {found}")
    if layers < 2:
        raise BadInput("early exit: the encoder has 1 layer, and nothing to leave out; expected 2 or more")
