"""Layers of recurrent networks. Between them time comes first, `[time, batch, width]`, as the recurrence reads it."""

import keras
import tensorflow as tf

from zoo.models import lstm_scan
from zoo.models.layers import NoisyLayer, dropped

POOLINGS = ("last", "mean", "max", "attention", "concat")
IMPLEMENTATIONS = ("scan", "keras")


@keras.saving.register_keras_serializable(package="zoo")
class Lengths(keras.layers.Layer):
    """Lengths of texts that are padded with 0 at the end: int32 `[batch]`, at least 1, from `[batch, time]`."""

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        return tf.maximum(tf.reduce_sum(tf.cast(tokens != 0, tf.int32), axis=1), 1)

    def compute_output_spec(self, tokens):
        return keras.KerasTensor((tokens.shape[0],), "int32")


@keras.saving.register_keras_serializable(package="zoo")
class TokenEmbedding(NoisyLayer):
    """Vectors of tokens: `[batch, time]` to `[time, batch, width]`.

    Called with `reverse=True` it goes back, with the same matrix: `[time, batch, width]` to logits over the vocabulary
    (Press and Wolf, "Using the output embedding to improve language models", 2017).

    Args:
        vocabulary: number of ids.
        width: of a vector.
        dropout: share of the *words* that are left out of a step, wherever they stand (Gal and Ghahramani, 2016,
            section 4.2; Merity et al., 2018, section 4.3).
    """

    def __init__(self, vocabulary: int, width: int, dropout: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary, self.width, self.dropout = int(vocabulary), int(width), float(dropout)

    def build(self, inputs_shape):
        self.embeddings = self.add_weight((self.vocabulary, self.width), initializer="uniform", name="embeddings")

    def call(self, inputs: tf.Tensor, training: bool = False, reverse: bool = False) -> tf.Tensor:
        if reverse:
            matrix = tf.convert_to_tensor(self.embeddings)
            return tf.cast(tf.einsum("tbw,vw->tbv", inputs, tf.cast(matrix, inputs.dtype)), tf.float32)
        tokens = tf.transpose(inputs)
        vectors = tf.gather(tf.convert_to_tensor(self.embeddings), tokens)
        if training and self.dropout:
            # The same words for every example, so it needs no place in the batch.
            kept = dropped(tf.ones([self.vocabulary, 1]), self.dropout, self.bits([self.vocabulary, 1], by_row=False))
            vectors *= tf.gather(kept, tokens)
        return tf.cast(vectors, self.compute_dtype)

    def compute_output_spec(self, inputs, training=False, reverse=False):
        if reverse:
            return keras.KerasTensor((*inputs.shape[:-1], self.vocabulary), "float32")
        return keras.KerasTensor((inputs.shape[1], inputs.shape[0], self.width), self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "vocabulary": self.vocabulary, "width": self.width, "dropout": self.dropout}


@keras.saving.register_keras_serializable(package="zoo")
class VariationalDropout(NoisyLayer):
    """Dropout with one mask for all steps of a sequence (Gal and Ghahramani, 2016), on `[time, batch, width]`."""

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        self.rate = float(rate)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or self.rate == 0.0:
            return inputs
        shape = tf.shape(inputs)
        mask = dropped(tf.ones(shape[1:], inputs.dtype), self.rate, self.bits(shape[1:]))
        return inputs * mask[None]

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable(package="zoo")
class Lstm(NoisyLayer):
    """An LSTM over `[time, batch, width]`, with the weights of a `keras.layers.LSTM` in each direction.

    Padding stands at the end. It changes nothing before it, so no mask is needed: who reads the output looks at the
    length. The backward direction reads each sequence from its own last token.

    Args:
        units: of each direction.
        bidirectional: whether to read in both; the outputs stand side by side.
        weight_dropout: share of the recurrent matrix left out of a step (DropConnect; Merity et al., 2018, section 2).
        implementation: "scan" (`zoo.models.lstm_scan`, fast on CPUs, XLA) or "keras" (cuDNN on GPUs, no XLA).
    """

    def __init__(self, units: int, bidirectional=False, weight_dropout=0.0, implementation: str = "scan", **kwargs):
        super().__init__(**kwargs)
        if implementation not in IMPLEMENTATIONS:
            raise ValueError(f"implementation is {implementation!r}: expected one of {', '.join(IMPLEMENTATIONS)}")
        if implementation == "keras" and weight_dropout:
            raise ValueError("weight_dropout needs implementation='scan': cuDNN takes no other recurrent matrix")
        self.units, self.bidirectional = int(units), bool(bidirectional)
        self.weight_dropout, self.implementation = float(weight_dropout), implementation
        names = ("forward", "backward") if bidirectional else ("forward",)
        self.directions = [keras.layers.LSTM(self.units, return_sequences=True, name=name) for name in names]

    def build(self, inputs_shape, lengths_shape):
        for direction in self.directions:
            direction.build((None, None, inputs_shape[-1]))

    def call(self, inputs: tf.Tensor, lengths: tf.Tensor, training: bool = False) -> tf.Tensor:
        outputs = [self._run(self.directions[0], inputs, lengths, training)]
        if self.bidirectional:
            turned = self._run(self.directions[1], _turned(inputs, lengths), lengths, training)
            outputs.append(_turned(turned, lengths))
        return tf.concat(outputs, axis=-1) if self.bidirectional else outputs[0]

    def _run(self, layer: keras.layers.LSTM, inputs: tf.Tensor, lengths: tf.Tensor, training: bool) -> tf.Tensor:
        if self.implementation == "keras":
            return tf.transpose(layer(tf.transpose(inputs, [1, 0, 2]), training=training), [1, 0, 2])
        kernel, recurrent, bias = (
            tf.cast(tf.convert_to_tensor(weight), tf.float32)
            for weight in (layer.cell.kernel, layer.cell.recurrent_kernel, layer.cell.bias)
        )
        if training and self.weight_dropout:
            bits = self.bits(recurrent.shape, by_row=False)
            recurrent = dropped(recurrent, self.weight_dropout, bits)
        outputs = lstm_scan.lstm(tf.cast(inputs, tf.float32), kernel, recurrent, bias, tf.reduce_max(lengths))
        return tf.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, inputs_shape, lengths_shape=None):
        return (*inputs_shape[:-1], self.units * len(self.directions))

    def compute_output_spec(self, inputs, lengths, training=False):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), self.compute_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "bidirectional": self.bidirectional,
            "weight_dropout": self.weight_dropout,
            "implementation": self.implementation,
        }


@keras.saving.register_keras_serializable(package="zoo")
class Guesses(keras.layers.Layer):
    """What guesses each token from one side: `[time, batch, 2 * units]` to `[2 * (time - 1), batch, units]`.

    First what has read forwards, at all tokens but the last, for the token behind each; then what has read backwards,
    at all but the first, for the token before each. Neither has seen what it guesses.
    """

    def call(self, outputs: tf.Tensor) -> tf.Tensor:
        half = outputs.shape[-1] // 2
        return tf.concat([outputs[:-1, :, :half], outputs[1:, :, half:]], axis=0)

    def compute_output_shape(self, outputs_shape):
        return (None, outputs_shape[1], outputs_shape[-1] // 2)


@keras.saving.register_keras_serializable(package="zoo")
class Pool(keras.layers.Layer):
    """One vector for a sequence: `[time, batch, width]` and lengths to `[batch, width]`, padding left out.

    Args:
        kind: "last" output (of the backward direction: the one after the whole text, at its start), "mean", "max",
            "attention" (a softmax over learned scores; Yang et al., 2016, section 2.2), or "concat" of last, max and
            mean (Howard and Ruder, 2018, section 3.3).
        bidirectional: whether the second half of the width was read backwards.
    """

    def __init__(self, kind: str, bidirectional: bool = False, **kwargs):
        super().__init__(**kwargs)
        if kind not in POOLINGS:
            raise ValueError(f"pooling is {kind!r}: expected one of {', '.join(POOLINGS)}")
        self.kind, self.bidirectional = kind, bool(bidirectional)

    def build(self, outputs_shape, lengths_shape):
        if self.kind == "attention":
            width = outputs_shape[-1]
            self.hidden = self.add_weight((width, width), initializer="glorot_uniform", name="hidden")
            self.query = self.add_weight((width, 1), initializer="glorot_uniform", name="query")

    def call(self, outputs: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        if self.kind == "last":
            return self._last(outputs, lengths)
        real = tf.range(tf.shape(outputs)[0])[:, None] < lengths[None]
        real = real[:, :, None]
        if self.kind == "mean":
            return _mean(outputs, real, lengths)
        if self.kind == "max":
            return _max(outputs, real)
        if self.kind == "concat":
            return tf.concat(
                [self._last(outputs, lengths), _max(outputs, real), _mean(outputs, real, lengths)], axis=-1
            )
        scores = tf.matmul(tf.tanh(tf.matmul(outputs, tf.cast(self.hidden, outputs.dtype))), self.query)
        weights = tf.nn.softmax(tf.where(real, scores, scores.dtype.min), axis=0)
        return tf.reduce_sum(tf.where(real, weights * outputs, 0.0), axis=0)

    def _last(self, outputs: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        places = tf.stack([lengths - 1, tf.range(tf.shape(lengths)[0])], axis=1)
        last = tf.gather_nd(outputs, places)
        if not self.bidirectional:
            return last
        half = outputs.shape[-1] // 2
        return tf.concat([last[:, :half], outputs[0, :, half:]], axis=-1)

    def compute_output_shape(self, outputs_shape, lengths_shape=None):
        return (outputs_shape[1], outputs_shape[-1] * (3 if self.kind == "concat" else 1))

    def compute_output_spec(self, outputs, lengths):
        return keras.KerasTensor(self.compute_output_shape(outputs.shape), self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "kind": self.kind, "bidirectional": self.bidirectional}


def _mean(outputs: tf.Tensor, real: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.where(real, outputs, 0.0), axis=0) / tf.cast(lengths, outputs.dtype)[:, None]


def _max(outputs: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    # An LSTM's output is above -1.
    return tf.reduce_max(tf.where(real, outputs, -1.0), axis=0)


def _turned(sequences: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Each sequence from its last entry to its first; padding stays at the end."""
    return tf.reverse_sequence(sequences, lengths, seq_axis=0, batch_axis=1)
