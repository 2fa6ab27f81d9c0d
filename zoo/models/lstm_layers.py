"""LSTM layers: embedding, variational dropout, recurrence and pooling; time-major, `[time, batch, width]`."""

import keras
import tensorflow as tf

from zoo.models import lstm_scan
from zoo.models.layers import NoisyLayer, apply_dropout

POOLINGS = ("last", "mean", "max", "attention", "concat")
IMPLEMENTATIONS = ("scan", "keras")


@keras.saving.register_keras_serializable(package="zoo")
class Lengths(keras.layers.Layer):
    """Lengths of texts that are padded with 0 at the end: `[batch, time]` to int32 `[batch]`, at least 1."""

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        return tf.maximum(tf.reduce_sum(tf.cast(tokens != 0, tf.int32), axis=1), 1)

    def compute_output_spec(self, tokens):
        return keras.KerasTensor((tokens.shape[0],), "int32")


@keras.saving.register_keras_serializable(package="zoo")
class TokenEmbedding(NoisyLayer):
    """Token embedding: `[batch, time]` to `[time, batch, width]`.

    With `reverse=True` it maps `[time, batch, width]` to logits over the vocabulary with the same matrix (Press and
    Wolf, "Using the output embedding to improve language models", 2017).

    Args:
        vocabulary: number of ids.
        width: embedding width.
        dropout: fraction of the *words* that are dropped in a step, wherever they occur (Gal and Ghahramani, 2016,
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
            logits = tf.einsum("tbw,vw->tbv", inputs, tf.cast(matrix, inputs.dtype))  # [time, batch, vocabulary]
            return tf.cast(logits, tf.float32)
        tokens = tf.transpose(inputs)  # [time, batch]
        vectors = tf.gather(tf.convert_to_tensor(self.embeddings), tokens)  # [time, batch, width]
        if training and self.dropout:
            # The same words for every example, so the bits do not depend on the row.
            bits = self.bits([self.vocabulary, 1], by_row=False)
            scale = apply_dropout(tf.ones([self.vocabulary, 1]), self.dropout, bits)
            vectors *= tf.gather(scale, tokens)  # [time, batch, 1]
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
        mask = apply_dropout(tf.ones(shape[1:], inputs.dtype), self.rate, self.bits(shape[1:]))  # [batch, width]
        return inputs * mask[None]

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable(package="zoo")
class Lstm(NoisyLayer):
    """An LSTM over `[time, batch, width]`, with the weights of a `keras.layers.LSTM` in each direction.

    Padding is at the end and does not affect the outputs before it, so there is no mask: later layers use the lengths.
    The backward direction starts at each sequence's last token.

    Args:
        units: number of units per direction.
        bidirectional: whether to read in both directions; their outputs are concatenated.
        weight_dropout: fraction of the recurrent matrix that is dropped in a step (DropConnect; Merity et al., 2018,
            section 2).
        implementation: "scan" (`zoo.models.lstm_scan`, fast on CPUs, XLA) or "keras" (cuDNN on GPUs, no XLA).
    """

    def __init__(self, units: int, bidirectional=False, weight_dropout=0.0, implementation: str = "scan", **kwargs):
        super().__init__(**kwargs)
        if implementation not in IMPLEMENTATIONS:
            raise ValueError(f"implementation is {implementation!r}: expected one of {', '.join(IMPLEMENTATIONS)}")
        if implementation == "keras" and weight_dropout:
            raise ValueError("weight_dropout needs implementation='scan': cuDNN cannot drop recurrent weights")
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
            backward = self._run(self.directions[1], _reversed(inputs, lengths), lengths, training)
            outputs.append(_reversed(backward, lengths))
        return tf.concat(outputs, axis=-1) if self.bidirectional else outputs[0]  # [time, batch, directions * units]

    def _run(self, layer: keras.layers.LSTM, inputs: tf.Tensor, lengths: tf.Tensor, training: bool) -> tf.Tensor:
        if self.implementation == "keras":
            batch_major = tf.transpose(inputs, [1, 0, 2])  # [batch, time, width]
            return tf.transpose(layer(batch_major, training=training), [1, 0, 2])  # [time, batch, units]
        kernel, recurrent, bias = (
            tf.cast(tf.convert_to_tensor(weight), tf.float32)
            for weight in (layer.cell.kernel, layer.cell.recurrent_kernel, layer.cell.bias)
        )
        if training and self.weight_dropout:
            bits = self.bits(recurrent.shape, by_row=False)
            recurrent = apply_dropout(recurrent, self.weight_dropout, bits)
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
    """Aligns both directions for prediction: `[time, batch, 2 * units]` to `[2 * (time - 1), batch, units]`.

    First the forward outputs at all tokens but the last, to predict the token after each; then the backward outputs at
    all tokens but the first, to predict the token before each. Neither has read the token that it predicts.
    """

    def call(self, outputs: tf.Tensor) -> tf.Tensor:
        half = outputs.shape[-1] // 2
        return tf.concat([outputs[:-1, :, :half], outputs[1:, :, half:]], axis=0)  # [2 * (time - 1), batch, units]

    def compute_output_shape(self, outputs_shape):
        return (None, outputs_shape[1], outputs_shape[-1] // 2)


@keras.saving.register_keras_serializable(package="zoo")
class Pool(keras.layers.Layer):
    """Pools a sequence into one vector: `[time, batch, width]` and lengths to `[batch, width]`, without padding.

    Args:
        kind: "last" output (of the backward direction: its last one, at the start of the text), "mean", "max",
            "attention" (a softmax over learned scores; Yang et al., 2016, section 2.2), or "concat" of last, max and
            mean (Howard and Ruder, 2018, section 3.3).
        bidirectional: whether the second half of the width is the backward direction.
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
        mask = tf.range(tf.shape(outputs)[0])[:, None] < lengths[None]
        mask = mask[:, :, None]  # [time, batch, 1]
        if self.kind == "mean":
            return _mean(outputs, mask, lengths)
        if self.kind == "max":
            return _max(outputs, mask)
        if self.kind == "concat":
            parts = [self._last(outputs, lengths), _max(outputs, mask), _mean(outputs, mask, lengths)]
            return tf.concat(parts, axis=-1)  # [batch, 3 * width]
        hidden = tf.tanh(tf.matmul(outputs, tf.cast(self.hidden, outputs.dtype)))  # [time, batch, width]
        scores = tf.matmul(hidden, self.query)  # [time, batch, 1]
        weights = tf.nn.softmax(tf.where(mask, scores, scores.dtype.min), axis=0)
        return tf.reduce_sum(tf.where(mask, weights * outputs, 0.0), axis=0)

    def _last(self, outputs: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        indices = tf.stack([lengths - 1, tf.range(tf.shape(lengths)[0])], axis=1)  # [batch, 2]
        last = tf.gather_nd(outputs, indices)  # [batch, width]
        if not self.bidirectional:
            return last
        half = outputs.shape[-1] // 2
        return tf.concat([last[:, :half], outputs[0, :, half:]], axis=-1)  # [batch, width]

    def compute_output_shape(self, outputs_shape, lengths_shape=None):
        return (outputs_shape[1], outputs_shape[-1] * (3 if self.kind == "concat" else 1))

    def compute_output_spec(self, outputs, lengths):
        return keras.KerasTensor(self.compute_output_shape(outputs.shape), self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "kind": self.kind, "bidirectional": self.bidirectional}


def _mean(outputs: tf.Tensor, mask: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.where(mask, outputs, 0.0), axis=0) / tf.cast(lengths, outputs.dtype)[:, None]


def _max(outputs: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    # An LSTM's output is above -1.
    return tf.reduce_max(tf.where(mask, outputs, -1.0), axis=0)


def _reversed(sequences: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Reverses each sequence `[time, batch, width]`; padding stays at the end."""
    return tf.reverse_sequence(sequences, lengths, seq_axis=0, batch_axis=1)
