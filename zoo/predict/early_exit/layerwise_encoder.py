"""A Transformer encoder run layer by layer, with the pooled hidden states of each layer."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import BadInput
from zoo.models import encoder_heads, logits_mixture, transformer
from zoo.models.layers import Dropout
from zoo.models.ngram_logits import NgramLogits
from zoo.predict.predictors.compiled_programs import CompiledPrograms
from zoo.predict.predictors.text_classifier import TextClassifier
from zoo.predict.predictors.text_inputs import Example


class Hidden(NamedTuple):
    """Hidden states between two layers, on the device.

    Attributes:
        x: `[rows, time, width]`.
        mask: bool `[rows, time]`, which tokens may be attended to.
    """

    x: tf.Tensor
    mask: tf.Tensor

    def rows(self, chosen: np.ndarray) -> "Hidden":
        """Selected rows, by their numbers."""
        return Hidden(tf.gather(self.x, chosen), tf.gather(self.mask, chosen))  # [chosen, time, width], [chosen, time]


def joined(parts: Sequence[Hidden]) -> Hidden:
    """All rows in one batch."""
    return parts[0] if len(parts) == 1 else Hidden(*(tf.concat(each, axis=0) for each in zip(*parts)))


class LayerwiseEncoder:
    """An encoder classifier as one program for each layer and shape of its inputs.

    The programs share the model's variables, so they follow an adaptation stage that changes these.

    Args:
        model: a model of `zoo.models.encoder_heads.classifier`.

    Attributes:
        layers: number of encoder layers.
        width: width of a token's hidden state.
        share: weight of the head's logits beside those of n-grams; 1 where there are none.

    Raises:
        BadInput: the model is of another kind, or has only one layer.
    """

    def __init__(self, model: keras.Model):
        self._model, self._names = model, {layer.name for layer in model.layers}
        self._blocks = [layer for layer in model.layers if isinstance(layer, transformer.Block)]
        self.layers = len(self._blocks)
        _check(model, self.layers)
        self.width = self._layer("embedding").width
        self._has_ngrams = "ngrams" in self._names
        self.share, self._ngram_share = logits_mixture.shares(model)
        self._ngrams = CompiledPrograms(lambda tokens: self._layer("ngrams")(tokens))
        self._programs = [CompiledPrograms(self._part(number)) for number in range(self.layers)]

    def first_layer(self, inputs: list[np.ndarray]) -> tuple[Hidden, np.ndarray]:
        """Runs the embedding and the first layer on the model's inputs; for the results see `inner_layer`."""
        return self._run(0, list(map(tf.constant, inputs)))

    def inner_layer(self, number: int, hidden: Hidden) -> tuple[Hidden, np.ndarray]:
        """Runs one of the layers between the first and the last.

        Args:
            number: the layer's number, from 0.
            hidden: output of the layer before it.

        Returns:
            The input of the next layer, and float32 `[rows, width]`: pooled as the model pools its last layer, the mean
            over a text's tokens or the first token's vector.
        """
        return self._run(number, list(hidden))

    def last_layer(self, hidden: Hidden) -> np.ndarray:
        """Runs the last layer and the head: the head's share in the model's logits, float32 `[rows, logits]`."""
        return self._programs[-1](list(hidden)).numpy().astype(np.float32) * np.float32(self.share)

    def all_layers(
        self, predictor: TextClassifier, texts: Sequence[Example]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Runs all layers on texts.

        Args:
            predictor: the classifier of this model.
            texts: its examples.

        Returns:
            Pooled states of each layer but the last, float32 `[layers - 1, texts, width]`; the n-gram logits, see
            `ngrams`; and the model's logits.
        """
        pooled = np.zeros((self.layers - 1, len(texts), self.width), np.float32)
        ngrams, logits = np.zeros((2, len(texts), self._model.output_shape[-1]), np.float32)
        for chosen, inputs in predictor.fed(texts):
            hidden, rows = self.first_layer(inputs)
            pooled[0, chosen] = rows[: len(chosen)]
            for number in range(1, self.layers - 1):
                hidden, rows = self.inner_layer(number, hidden)
                pooled[number, chosen] = rows[: len(chosen)]
            ngrams[chosen] = self.ngrams(inputs)[: len(chosen)]
            logits[chosen] = self.last_layer(hidden)[: len(chosen)] + ngrams[chosen]
        return pooled, ngrams, logits

    def ngrams(self, inputs: list[np.ndarray]) -> np.ndarray:
        """The share of the n-grams in the model's logits, float32 `[rows, logits]`; zeros where it has none."""
        if not self._has_ngrams:
            return np.zeros((len(inputs[0]), self._model.output_shape[-1]), np.float32)
        return self._ngrams(tf.constant(inputs[0])).numpy() * np.float32(self._ngram_share)

    def _run(self, number: int, inputs: list[tf.Tensor]) -> tuple[Hidden, np.ndarray]:
        x, mask, pooled = self._programs[number](inputs)
        return Hidden(x, mask), pooled.numpy()

    def _part(self, number: int):
        """The function of one layer; the first includes the embedding, the last the pooling and the head."""

        def run(inputs):
            if number == 0:
                inputs = [self._layer("embedding")(*inputs), self._layer("seen")(inputs[0])]
            x, mask = inputs
            x, _ = self._blocks[number](x, mask, training=False)  # [rows, time, width]
            if number < self.layers - 1:
                return x, mask, tf.cast(self._pooled(x, mask), tf.float32)
            pooled = self._pooled(self._layer("norm")(x) if "norm" in self._names else x, mask)  # [rows, width]
            return self._layer("head")(self._layer("pooler")(pooled) if "pooler" in self._names else pooled)

        return run

    def _pooled(self, x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        return self._layer("mean")(x, mask) if "mean" in self._names else self._layer("first")(x)

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
    NgramLogits,
    logits_mixture.LogitsMixture,
    # A mixture as earlier versions wrote it.
    keras.layers.Rescaling,
    keras.layers.Add,
)


def _check(model: keras.Model, layers: int) -> None:
    kinds = {type(layer).__name__ for layer in model.layers if not isinstance(layer, _KINDS)}
    if kinds or not layers or any(layer.causal for layer in model.layers if isinstance(layer, transformer.Block)):
        names = ", ".join(sorted(kinds)) or "no block that sees a whole text"
        raise BadInput(f"early exit is for classifiers by a Transformer encoder: the model has {names}")
    if layers < 2:
        raise BadInput("early exit: the encoder has 1 layer, and nothing to leave out; expected 2 or more")
