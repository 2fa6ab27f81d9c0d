"""The Transformer (Vaswani et al., 2017) as an encoder (BERT; Devlin et al., 2019) or, with a causal mask, a decoder.

Between layers a batch of texts is `[batch, time, width]`. Padding, id 0, is at the end and masked in the attention. A
layer consists of matrix products with XLA islands between them, see `zoo.models.xla_islands`.
"""

import functools
import math

import keras
import tensorflow as tf

from zoo import randomness
from zoo.models.hugging_face.config import ACTIVATIONS, Shape
from zoo.models.layers import NoisyLayer, apply_dropout
from zoo.models.lstm_scan import sizes
from zoo.models.xla_islands import island

_ACTIVATIONS = {
    "gelu": functools.partial(tf.nn.gelu, approximate=False),
    "gelu_new": functools.partial(tf.nn.gelu, approximate=True),
    "relu": tf.nn.relu,
}


@keras.saving.register_keras_serializable(package="zoo")
class Embedding(NoisyLayer):
    """Sum of token, position and segment embeddings, normalised, with dropout: `[batch, time]` to `[..., width]`.

    With `reverse=True` it maps `[..., width]` to logits over the vocabulary with the same matrix (Press and Wolf,
    "Using the output embedding to improve language models", 2017). `start` is the position of the first token, 0 by
    default.

    Args:
        vocabulary: number of ids, 0 for padding included.
        width: embedding width.
        positions: maximum sequence length.
        segments: number of segment types; 0 for none.
        norm: whether to normalise the sum (post-norm models do).
        dropout: dropout rate of the output.
        epsilon: epsilon of the normalisation; 1e-12 is BERT's.
        first: number of tokens of a longer text that are read, the first ones; 0: all.
    """

    def __init__(
        self, vocabulary, width, positions, segments=0, norm=True, dropout=0.0, epsilon=1e-12, first=0, **kwargs
    ):
        # No autocast: the norm needs float32 weights, and casting the whole token table would be wasteful.
        super().__init__(autocast=False, **kwargs)
        self.vocabulary, self.width, self.positions, self.segments = vocabulary, width, positions, segments
        self.norm, self.dropout, self.epsilon = bool(norm), float(dropout), float(epsilon)
        self.first = int(first)

    def build(self, tokens_shape, segments_shape=None):
        # 0.02 is BERT's and GPT's: a tied output layer starts with small logits.
        small = keras.initializers.RandomNormal(stddev=0.02)
        # Set for each weight, too: Keras casts the weights of a layer that is called outside a mixed-precision model.
        table = {"initializer": small, "autocast": False}
        self.token = self.add_weight((self.vocabulary, self.width), name="token", **table)
        self.position = self.add_weight((self.positions, self.width), name="position", **table)
        if self.segments:
            self.segment = self.add_weight((self.segments, self.width), name="segment", **table)
        if self.norm:
            self.gamma = self.add_weight((self.width,), initializer="ones", name="norm_gamma", autocast=False)
            self.beta = self.add_weight((self.width,), initializer="zeros", name="norm_beta", autocast=False)

    def call(self, tokens, segments=None, training: bool = False, reverse: bool = False, start=None) -> tf.Tensor:
        if reverse:
            matrix = tf.cast(tf.convert_to_tensor(self.token), tokens.dtype)
            rows = tf.matmul(tf.reshape(tokens, [-1, self.width]), matrix, transpose_b=True)  # [rows, vocabulary]
            return _floats(tf.reshape(rows, [*sizes(tokens)[:-1], self.vocabulary]))  # [..., vocabulary]
        if self.first:
            tokens = tokens[:, : self.first]
            segments = None if segments is None else segments[:, : self.first]
        time = sizes(tokens)[1]
        if isinstance(time, int) and time > self.positions:
            raise ValueError(f"{time} tokens: the table has {self.positions} positions; cut the texts")
        vectors = tf.gather(tf.convert_to_tensor(self.token), tokens)  # [batch, time, width]
        table = tf.convert_to_tensor(self.position)
        # Clipped: only padding, whose outputs are never read, can be past the last position.
        positions = table[:time] if start is None else tf.gather(table, _positions(start, time, self.positions))
        if self.segments:
            # A product, not a gather: its gradient needs no scatter.
            types = tf.zeros_like(tokens) if segments is None else segments
            one_hot = tf.one_hot(types, self.segments)  # [batch, time, segments]
            vectors += tf.einsum("bts,sw->btw", one_hot, tf.convert_to_tensor(self.segment))  # [batch, time, width]
        rate = self.dropout if training else 0.0
        norm = [self.gamma, self.beta] if self.norm else []
        return _embedded(rate, self.epsilon, self.compute_dtype)(vectors, positions, self.noise(rate), *norm)

    def compute_output_spec(self, tokens, segments=None, training=False, reverse=False, start=None):
        if reverse:
            return keras.KerasTensor((*tokens.shape[:-1], self.vocabulary), "float32")
        shape = (tokens.shape[0], None) if self.first else tokens.shape
        return keras.KerasTensor((*shape, self.width), self.compute_dtype)

    def get_config(self):
        names = ("vocabulary", "width", "positions", "segments", "norm", "dropout", "epsilon", "first")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="zoo")
class Block(NoisyLayer):
    """Transformer block: self-attention and a feed-forward layer, each with a residual connection and layer norm.

    Called on `[batch, time, width]` and the attention mask `seen`, bool `[batch, time]`; returns the outputs, and the
    attention probabilities `[batch, heads, time, time]` after dropout.

    Args:
        heads: number of attention heads (Vaswani et al., 2017, section 3.2.2).
        inner: width of the feed-forward layer's hidden layer.
        activation: one of `ACTIVATIONS`.
        norm_first: whether to normalise before each sub-layer (pre-norm; Xiong et al., 2020), not after it.
        causal: whether to mask later tokens.
        dropout: dropout rate of each sub-layer's output.
        attention_dropout: dropout rate of the attention probabilities.
        epsilon: epsilon of the normalisation.
        stochastic_depth: probability that a text's row skips a sub-layer in training (Huang et al., 2016).
    """

    def __init__(
        self,
        heads: int,
        inner: int,
        activation: str = "gelu",
        norm_first: bool = False,
        causal: bool = False,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        epsilon: float = 1e-12,
        stochastic_depth: float = 0.0,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}: expected one of {', '.join(ACTIVATIONS)}")
        self.heads, self.inner, self.activation = int(heads), int(inner), activation
        self.norm_first, self.causal = bool(norm_first), bool(causal)
        self.dropout, self.attention_dropout = float(dropout), float(attention_dropout)
        self.epsilon, self.stochastic_depth = float(epsilon), float(stochastic_depth)

    def build(self, inputs_shape, seen_shape):
        width = inputs_shape[-1]
        if width % self.heads:
            raise ValueError(f"width {width} cannot be divided among {self.heads} heads")
        self.qkv_kernel, self.qkv_bias = self._dense("attention_qkv", width, 3 * width)
        self.output_kernel, self.output_bias = self._dense("attention_output", width, width)
        self.attention_norm = self._norm("attention_norm", width)
        self.inner_kernel, self.inner_bias = self._dense("inner", width, self.inner)
        self.outer_kernel, self.outer_bias = self._dense("outer", self.inner, width)
        self.norm = self._norm("norm", width)

    def call(self, inputs: tf.Tensor, seen: tf.Tensor, training: bool = False):
        """softmax(Q K^T / sqrt(depth)) V of all heads, then the feed-forward layer; and the softmax."""
        query, key, value = self.project_qkv(inputs)  # [batch, heads, time, depth] each
        scores = tf.matmul(query, key, transpose_b=True)  # [batch, heads, time, time]
        rate = self.attention_dropout if training else 0.0
        probabilities = _softmax(self.causal, rate, query.shape[-1])(scores, seen, self.noise(rate))
        return self.after_attention(inputs, tf.matmul(probabilities, value), training), probabilities

    def project_qkv(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Queries, keys and values: `[batch, time, width]` to `[batch, heads, time, depth]` each."""
        x = self._pre_norm(inputs, self.attention_norm)
        return _split(self.heads)(_product(x, self.qkv_kernel, self.qkv_bias))

    def after_attention(self, inputs: tf.Tensor, attended: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The block after the attention: its values `[batch, heads, time, depth]` to `[batch, time, width]`."""
        rate = self.dropout if training else 0.0
        attended = _product(_merged(attended), self.output_kernel, self.output_bias)  # [batch, time, width]
        skipping = self.stochastic_depth if training else 0.0
        x = self._add(inputs, self._skipped(attended, skipping), self.attention_norm, rate)
        hidden = _product(self._pre_norm(x, self.norm), self.inner_kernel, self.inner_bias)  # [batch, time, inner]
        hidden = _activated(self.activation)(hidden)
        update = self._skipped(_product(hidden, self.outer_kernel, self.outer_bias), skipping)
        return self._add(x, update, self.norm, rate)

    def _pre_norm(self, x: tf.Tensor, norm: list[keras.Variable]) -> tf.Tensor:
        return _normalised(self.epsilon)(x, *norm) if self.norm_first else x

    def _add(self, x: tf.Tensor, update: tf.Tensor, norm: list[keras.Variable], rate: float) -> tf.Tensor:
        """The residual connection: `x + dropout(update)`, normalised in a post-norm block."""
        return _residual(rate, self.epsilon)(x, update, self.noise(rate), *([] if self.norm_first else norm))

    def _skipped(self, update: tf.Tensor, rate: float) -> tf.Tensor:
        """What a sub-layer adds, 0 in the rows that skip it and scaled up in the others."""
        return apply_dropout(update, rate, self.bits([sizes(update)[0], 1, 1])) if rate else update

    def _dense(self, name: str, inputs: int, outputs: int) -> list[keras.Variable]:
        small = keras.initializers.RandomNormal(stddev=0.02)
        kernel = self.add_weight((inputs, outputs), initializer=small, name=f"{name}_kernel", autocast=False)
        return [kernel, self.add_weight((outputs,), initializer="zeros", name=f"{name}_bias", autocast=False)]

    def _norm(self, name: str, width: int) -> list[keras.Variable]:
        gamma = self.add_weight((width,), initializer="ones", name=f"{name}_gamma", autocast=False)
        return [gamma, self.add_weight((width,), initializer="zeros", name=f"{name}_beta", autocast=False)]

    def compute_output_spec(self, inputs, seen, training=False):
        batch, time, width = inputs.shape
        maps = keras.KerasTensor((batch, self.heads, time, time), self.compute_dtype)
        return keras.KerasTensor((batch, time, width), self.compute_dtype), maps

    def get_config(self):
        names = ("heads", "inner", "activation", "norm_first", "causal", "dropout", "attention_dropout", "epsilon")
        names += ("stochastic_depth",) if self.stochastic_depth else ()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


# Registered under the name in saved models.
@keras.saving.register_keras_serializable(package="zoo", name="Seen")
class PaddingMask(keras.layers.Layer):
    """Attention mask: bool `[batch, time]`, true for all tokens but padding, and for the first one of an empty text.

    Args:
        first: number of tokens of a longer text that are read, as of `Embedding`; 0: all.
    """

    def __init__(self, first: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.first = int(first)

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        tokens = tokens[:, : self.first] if self.first else tokens
        return (tokens != 0) | (tf.range(tf.shape(tokens)[1]) == 0)

    def compute_output_spec(self, tokens):
        return keras.KerasTensor((tokens.shape[0], None) if self.first else tokens.shape, "bool")

    def get_config(self):
        return {**super().get_config(), "first": self.first}


def _positions(start, time, positions: int) -> tf.Tensor:
    return tf.minimum(start + tf.range(time), positions - 1)


def _product(x: tf.Tensor, kernel: keras.Variable, bias: keras.Variable) -> tf.Tensor:
    """`[batch, time, inputs]` times `[inputs, outputs]`, as one matrix product, plus the bias."""
    batch, time, width = sizes(x)
    kernel, bias = (tf.cast(tf.convert_to_tensor(variable), x.dtype) for variable in (kernel, bias))
    # TensorFlow operations: it fuses the two, and sums the bias' gradient faster than an island would.
    rows = tf.nn.bias_add(tf.matmul(tf.reshape(x, [-1, width]), kernel), bias)  # [batch * time, outputs]
    return tf.reshape(rows, [batch, time, kernel.shape[1]])  # [batch, time, outputs]


@keras.saving.register_keras_serializable(package="zoo")
class Norm(keras.layers.Layer):
    """Layer normalisation over the last axis, computed in float32 (Ba et al., 2016)."""

    def __init__(self, epsilon: float = 1e-12, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.epsilon = float(epsilon)

    def build(self, inputs_shape):
        self.gamma = self.add_weight((inputs_shape[-1],), initializer="ones", name="gamma", autocast=False)
        self.beta = self.add_weight((inputs_shape[-1],), initializer="zeros", name="beta", autocast=False)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return _normalised(self.epsilon)(inputs, self.gamma, self.beta)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


# Each island is created once per set of constants, so that all layers share the compiled programs.


@functools.cache
def _embedded(rate: float, epsilon: float, dtype: str):
    @island
    def embedded(vectors, positions, noise, *norm):
        x = _floats(vectors) + _floats(positions)  # [batch, time, width]
        x = _layer_norm(x, *norm, epsilon) if norm else x
        return tf.cast(_dropout(x, rate, noise), dtype)

    return embedded


@functools.cache
def _split(heads: int):
    @island
    def split(projected):
        """Queries, keys and values of each head, `[batch, heads, time, depth]`."""
        batch, time, width = sizes(projected)
        x = tf.reshape(projected, [batch, time, 3, heads, width // (3 * heads)])  # [batch, time, 3, heads, depth]
        return tuple(tf.unstack(tf.transpose(x, [2, 0, 3, 1, 4])))  # 3 x [batch, heads, time, depth]

    return split


@functools.cache
def _softmax(causal: bool, rate: float, depth: int):
    @island
    def softmax(scores, mask, noise):
        allowed = mask[:, None, None, :]  # [batch, 1, 1, time]
        if causal:
            positions = tf.range(tf.shape(scores)[-1])
            allowed &= positions[:, None] >= positions  # [batch, 1, time, time]
        x = tf.where(allowed, _floats(scores) / math.sqrt(depth), tf.float32.min)  # [batch, heads, time, time]
        return tf.cast(_dropout(tf.nn.softmax(x), rate, noise), scores.dtype)

    return softmax


@island
def _merged(context):
    """Concatenates the heads: `[batch, heads, time, depth]` to `[batch, time, width]`."""
    batch, heads, time, depth = sizes(context)
    by_time = tf.transpose(context, [0, 2, 1, 3])  # [batch, time, heads, depth]
    return tf.reshape(by_time, [batch, time, heads * depth])  # [batch, time, width]


@functools.cache
def _activated(activation: str):
    @island
    def activated(x):
        return tf.cast(_ACTIVATIONS[activation](_floats(x)), x.dtype)

    return activated


@functools.cache
def _normalised(epsilon: float):
    @island
    def normalised(x, gamma, beta):
        return tf.cast(_layer_norm(_floats(x), gamma, beta, epsilon), x.dtype)

    return normalised


@functools.cache
def _residual(rate: float, epsilon: float):
    @island
    def residual(x, update, noise, *norm):
        total = _floats(x) + _dropout(_floats(update), rate, noise)
        return tf.cast(_layer_norm(total, *norm, epsilon) if norm else total, x.dtype)

    return residual


def _dropout(x: tf.Tensor, rate: float, noise: tf.Tensor) -> tf.Tensor:
    """Dropout on `[batch, ...]`; draws no bits if the rate is 0."""
    if not rate:
        return x
    return apply_dropout(x, rate, randomness.bits(tf.shape(x), (noise[0], noise[1]), noise[2]))


def _layer_norm(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Normalises each row to mean 0 and variance 1 (Ba et al., 2016), times gamma, plus beta."""
    centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    return centred * tf.math.rsqrt(variance + epsilon) * gamma + beta


def _floats(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(x, tf.float32)


def encoder(
    shape: Shape, *, norm_first: bool = False, causal: bool = False, first: int = 0, stochastic_depth: float = 0.0
) -> keras.Model:
    """The encoder: int32 tokens `[batch, time]` and, if any, segments of the same shape to `[batch, time, width]`.

    Args:
        shape: the network's sizes and dropout rates; with `segments=0` the model has one input.
        norm_first: whether to use pre-norm, with a final normalisation; BERT is post-norm.
        causal: whether to mask later tokens, as in a language model.
        first: number of tokens of a longer text that are read, the first ones; the output has this length. 0: all.
        stochastic_depth: probability that a text skips the sub-layers of the last block in training; those of block l
            of L have l / L of it, the linear decay of Huang et al., 2016, section 3.
    """
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    inputs = [tokens, keras.Input((None,), dtype="int32", name="segments")] if shape.segments else [tokens]
    sizes = shape.vocabulary, shape.width, shape.positions, shape.segments
    x = Embedding(*sizes, not norm_first, shape.dropout, shape.epsilon, first, name="embedding")(*inputs)
    mask = PaddingMask(first, name="seen")(tokens)
    rates = shape.dropout, shape.attention_dropout
    for number in range(shape.layers):
        options = shape.heads, shape.inner, shape.activation, norm_first, causal
        skipping = stochastic_depth * (number + 1) / shape.layers
        x, _ = Block(*options, *rates, shape.epsilon, skipping, name=f"block{number}")(x, mask)
    x = Norm(shape.epsilon, name="norm")(x) if norm_first else x
    return keras.Model(inputs if shape.segments else tokens, x, name="encoder")
