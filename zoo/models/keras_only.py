"""Conversion of a network to Keras' own layers in float32, which every other runtime can read.

The zoo's layers contain XLA programs, hand-written gradients and per-example noise, which prediction does not need.
Where the zoo's layers are time-major, the converted ones are batch-major, outputs included.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.models import (
    encoder_heads,
    layers,
    logits_mixture,
    lstm_layers,
    ngram_logits,
    ngram_mixture,
    table_encoding,
    tabular,
    transformer,
    word_logits,
)

# Added to the attention scores of masked positions; the softmax is 0 for any score, as with -infinity.
_MASKED = -1e30
# Weight of the padding indicator in an LSTM's input gate; the gate's sigmoid is 0 in float32 for any text.
_CLOSED_GATE = -1e4


def plain(model: keras.Model, segments: bool = False) -> keras.Model:
    """Converts a model to Keras' own layers; the result loads and runs without the zoo.

    Args:
        model: a model of the zoo, of any precision.
        segments: whether to keep the input `segments`, for pairs of texts; else all tokens are in the first segment.

    Returns:
        A model with the same input names (`x` for an MLP) and the first output in float32; language models return
        `[batch, time, vocabulary]`.

    Raises:
        TypeError: a layer is neither the zoo's nor Keras'.
    """
    copy = keras.models.clone_model(model, _inputs(model), lambda layer: layer, _Converter(segments))
    inputs = [each for each in copy.inputs if segments or each.name != "segments"]
    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, copy.outputs[0], name="model")


def _inputs(model: keras.Model) -> Any:
    """New inputs with the model's names; `x` for the input of an MLP."""
    is_mlp = len(model.inputs) == 1 and model.inputs[0].name != "tokens"
    return keras.tree.map_structure(
        lambda each: keras.Input(batch_shape=each.shape, dtype=each.dtype, name="x" if is_mlp else each.name),
        model.input,
    )


class _Converter:
    """Calls Keras' own layers, with the same weights, instead of a model's layers."""

    def __init__(self, segments: bool):
        self._segments = segments
        # Layers that are called twice share their weights in the copy, too; and all blocks share their mask.
        self._shared: dict[Any, Any] = {}

    def __call__(self, layer: keras.layers.Layer, *inputs: Any, **options: Any) -> Any:
        options.pop("training", None)
        convert = _CONVERSIONS.get(type(layer))
        if convert is not None:
            return convert(self, layer, *inputs, **options)
        if not type(layer).__module__.startswith("keras."):
            raise TypeError(f"{layer.name} is a {type(layer).__name__}: it has no conversion to Keras' layers")
        return self.shared(layer.name, lambda: _float32(layer), [each.numpy() for each in layer.weights], *inputs)

    def shared(self, name: Any, make: Callable[[], keras.layers.Layer], weights: list, *inputs: Any, **options: Any):
        """Calls the layer of a name, which the first call makes with these weights."""
        is_new = name not in self._shared
        layer = self._shared.setdefault(name, make() if is_new else None)
        outputs = layer(*inputs, **options)
        if is_new and weights:
            layer.set_weights([np.asarray(each, np.float32) for each in weights])
        return outputs

    def dense(self, name: str, inputs: Any, kernel: Any, bias: Any) -> Any:
        weights = [_array(kernel), _array(bias)]
        return self.shared(name, lambda: keras.layers.Dense(weights[0].shape[1], name=name), weights, inputs)

    def norm(self, name: str, inputs: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
        make = lambda: keras.layers.LayerNormalization(epsilon=epsilon, name=name)  # noqa: E731
        return self.shared(name, make, [_array(gamma), _array(beta)], inputs)

    def reversible_embedding(self, layer: keras.layers.Layer, table: Any, inputs: Any, reverse: bool) -> Any:
        """Vectors of ids, or logits of vectors with the same matrix."""
        make = lambda: keras.layers.ReversibleEmbedding(layer.vocabulary, layer.width, name=layer.name)  # noqa: E731
        return self.shared(layer.name, make, [_array(table)], inputs, **({"reverse": True} if reverse else {}))

    def attention_bias(self, mask: Any, causal: bool) -> Any:
        """The mask as a summand of scores `[batch, heads, time, time]`; computed once for all blocks."""
        key = "attention_bias", id(mask), causal
        if key not in self._shared:
            allowed = ops.expand_dims(mask, [1, 2])  # [batch, 1, 1, time]
            if causal:
                positions = _positions(mask)
                earlier = ops.greater_equal(ops.expand_dims(positions, 2), ops.expand_dims(positions, 1))
                allowed = allowed * ops.cast(ops.expand_dims(earlier, 1), "float32")  # [batch, 1, time, time]
            self._shared[key] = (1.0 - allowed) * _MASKED
        return self._shared[key]

    # Each of the following methods converts one kind of layer.

    def batch_norm(self, layer: layers.BatchNorm, x: Any) -> Any:
        make = lambda: keras.layers.BatchNormalization(  # noqa: E731
            momentum=layer.momentum, epsilon=layer.epsilon, name=layer.name
        )
        weights = layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance
        return self.shared(layer.name, make, [_array(each) for each in weights], x)

    def padding_mask(self, layer: keras.layers.Layer, tokens: Any) -> Any:
        """1.0 at tokens, 0.0 at padding, `[batch, time]`; 1.0 at the first position of an empty text."""
        tokens = tokens[:, : layer.first] if getattr(layer, "first", 0) else tokens
        # ops.equal, not `==`: Keras compares symbolic tensors with `==` by identity.
        return ops.cast(ops.logical_or(ops.not_equal(tokens, 0), ops.equal(_positions(tokens), 0)), "float32")

    def embedding(self, layer: transformer.Embedding, tokens: Any, segments: Any = None, reverse: bool = False) -> Any:
        if reverse:
            return self.reversible_embedding(layer, layer.token, tokens, reverse=True)
        if layer.first:
            tokens, segments = (None if each is None else each[:, : layer.first] for each in (tokens, segments))
        position_table, segment_table = _array(layer.position), _array(layer.segment) if layer.segments else None
        if segment_table is not None and not self._segments:
            # All tokens are in the first segment: its vector joins the position table.
            position_table = position_table + segment_table[0]
        x = self.reversible_embedding(layer, layer.token, tokens, reverse=False)
        x += self._table(f"{layer.name}_position", position_table, _positions(tokens))
        if segment_table is not None and self._segments:
            x += self._table(f"{layer.name}_segment", segment_table, segments)
        return self.norm(f"{layer.name}_norm", x, layer.gamma, layer.beta, layer.epsilon) if layer.norm else x

    def _table(self, name: str, table: np.ndarray, ids: Any) -> Any:
        return self.shared(name, lambda: keras.layers.Embedding(*table.shape, name=name), [table], ids)

    def block(self, layer: transformer.Block, inputs: Any, mask: Any) -> tuple[Any, Any]:
        name, depth = layer.name, inputs.shape[-1] // layer.heads

        def normed(part: str, x: Any, weights: Any) -> Any:
            return self.norm(f"{name}_{part}", x, *weights, layer.epsilon)

        first = layer.norm_first
        x = normed("attention_norm", inputs, layer.attention_norm) if first else inputs
        qkv = self.dense(f"{name}_attention_qkv", x, layer.qkv_kernel, layer.qkv_bias)  # [batch, time, 3 * width]
        split = keras.layers.Reshape((-1, 3, layer.heads, depth))(qkv)  # [batch, time, 3, heads, depth]
        split = ops.transpose(split, (2, 0, 3, 1, 4))  # [3, batch, heads, time, depth]
        query, key, value = split[0], split[1], split[2]
        # [batch, heads, time, time]
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * (1.0 / math.sqrt(depth))
        maps = ops.softmax(scores + self.attention_bias(mask, layer.causal), axis=-1)
        merged = ops.transpose(ops.matmul(maps, value), (0, 2, 1, 3))  # [batch, time, heads, depth]
        merged = keras.layers.Reshape((-1, layer.heads * depth))(merged)  # [batch, time, width]
        x = inputs + self.dense(f"{name}_attention_output", merged, layer.output_kernel, layer.output_bias)
        x = x if first else normed("attention_norm", x, layer.attention_norm)
        middle = normed("norm", x, layer.norm) if first else x
        middle = self.dense(f"{name}_inner", middle, layer.inner_kernel, layer.inner_bias)  # [batch, time, inner]
        outer = self.dense(
            f"{name}_outer", _ACTIVATIONS[layer.activation](middle), layer.outer_kernel, layer.outer_bias
        )
        return x + outer if first else normed("norm", x + outer, layer.norm), maps

    def layer_norm(self, layer: transformer.Norm, x: Any) -> Any:
        return self.norm(layer.name, x, layer.gamma, layer.beta, layer.epsilon)

    def gather_positions(self, layer: encoder_heads.GatherPositions, x: Any, positions: Any) -> Any:
        return ops.take_along_axis(x, ops.expand_dims(positions, 2), axis=1)  # [batch, positions, width]

    def bias(self, layer: encoder_heads.Bias, x: Any) -> Any:
        # The only layer of Keras that can add a vector and do nothing else, with mean 0 and variance 1.
        make = lambda: keras.layers.BatchNormalization(scale=False, epsilon=1e-12, name=layer.name)  # noqa: E731
        bias = _array(layer.bias)
        return self.shared(layer.name, make, [bias, np.zeros_like(bias), np.ones_like(bias)], x)

    def mean_pooling(self, layer: encoder_heads.MeanPooling, x: Any, mask: Any) -> Any:
        return _mean(x, mask)

    def token_embedding(self, layer: lstm_layers.TokenEmbedding, inputs: Any, reverse: bool = False) -> Any:
        return self.reversible_embedding(layer, layer.embeddings, inputs, reverse)

    def lstm(self, layer: lstm_layers.Lstm, inputs: Any, mask: Any) -> Any:
        outputs = [self._direction(layer, "forward", layer.directions[0], inputs)]
        if layer.bidirectional:
            # Read backwards, padding comes first; it closes the input gate, so the state is 0 where the text starts.
            padding = ops.expand_dims(1.0 - mask, 2)
            x = ops.concatenate([inputs, padding], axis=2)  # [batch, time, width + 1]
            outputs.append(self._direction(layer, "backward", layer.directions[1], x))
        return ops.concatenate(outputs, axis=-1) if layer.bidirectional else outputs[0]

    def _direction(self, layer: lstm_layers.Lstm, name: str, source: keras.layers.LSTM, x: Any) -> Any:
        name, backwards, cell = f"{layer.name}_{name}", name == "backward", source.cell
        kernel, padding_row = _array(cell.kernel), np.repeat([_CLOSED_GATE, 0.0, 0.0, 0.0], layer.units)
        kernel = np.concatenate([kernel, padding_row[None]]) if backwards else kernel
        weights = [kernel, _array(cell.recurrent_kernel), _array(cell.bias)]
        options = {"return_sequences": True, "go_backwards": backwards, "name": name}
        outputs = self.shared(name, lambda: keras.layers.LSTM(layer.units, **options), weights, x)
        return ops.flip(outputs, axis=1) if backwards else outputs

    def pool(self, layer: lstm_layers.Pool, outputs: Any, mask: Any) -> Any:
        poolings = {
            "last": lambda: _last(outputs, mask, layer.bidirectional),
            "mean": lambda: _mean(outputs, mask),
            "max": lambda: _max(outputs, mask),
        }
        if layer.kind == "concat":
            return ops.concatenate([poolings[kind]() for kind in ("last", "max", "mean")], axis=-1)
        if layer.kind != "attention":
            return poolings[layer.kind]()
        width = outputs.shape[-1]
        hidden = self.dense(f"{layer.name}_hidden", outputs, layer.hidden, np.zeros(width))
        scores = self.dense(f"{layer.name}_query", ops.tanh(hidden), layer.query, np.zeros(1))  # [batch, time, 1]
        scores += ops.expand_dims((1.0 - mask) * _MASKED, 2)
        return ops.sum(ops.softmax(scores, axis=1) * outputs, axis=1)

    def ngrams(self, layer: ngram_logits.NgramLogits, tokens: Any) -> Any:
        # Tables are the weights of embeddings: a constant of this size would be copied into every graph.
        lookup = lambda features: self._table(f"{layer.name}_table", _array(layer.table), features)  # noqa: E731
        return self.bias(layer, ngram_logits.without_bias(tokens, layer, lookup))

    def ngram_mixture(self, layer: ngram_mixture.NgramMixture, logits: Any, tokens: Any) -> Any:
        arrays = {"slots": _array(layer.slots), "pairs": _array(layer.pairs), "gate": _array(layer.gate)}
        arrays["slots"] = arrays["slots"].reshape(len(arrays["slots"]), -1)
        arrays["gate"] = ngram_mixture.GATE_SCALE * arrays["gate"][:, None]

        def lookup(name: str) -> Callable[[Any], Any]:
            return lambda ids: self._table(f"{layer.name}_{name}", arrays[name], ids)

        tables = ngram_mixture.Tables(lookup("slots"), lookup("pairs"), lookup("gate"))
        last = ngram_mixture.last_tokens(tokens, layer.longest)
        return ngram_mixture.mixed(logits, last, layer, tables, _array(layer.unigram))

    def word_logits(self, layer: word_logits.WordLogits, features: Any) -> Any:
        lookup = lambda ids: self._table(f"{layer.name}_table", _array(layer.table), ids)  # noqa: E731
        return self.bias(layer, word_logits.without_bias(features, lookup))

    def mixture(self, layer: logits_mixture.LogitsMixture, network: Any, linear: Any) -> Any:
        parts = zip((network, linear), layer.shares(), ("network_share", "linear_share"))
        weighted = [keras.layers.Rescaling(share, name=name)(part) for part, share, name in parts]
        return keras.layers.Add(name=layer.name)(weighted)

    def standardization(self, layer: keras.layers.Normalization, x: Any) -> Any:
        # The statistics of Normalization are not weights: tf2onnx would make them inputs.
        mean, scale = (np.asarray(each, np.float32)[0] for each in (layer.mean, 1.0 / np.sqrt(layer.variance)))
        x = keras.layers.Rescaling(1.0, (-mean).tolist(), name=f"{layer.name}_mean")(x)
        return keras.layers.Rescaling(scale.tolist(), name=f"{layer.name}_scale")(x)

    def dense_layer(self, layer: keras.layers.Dense, x: Any) -> Any:
        name = getattr(layer.activation, "__name__", "")
        if name not in ("gelu", "gelu_new"):
            return self.shared(layer.name, lambda: _float32(layer), [each.numpy() for each in layer.weights], x)
        return _ACTIVATIONS[name](self.dense(layer.name, x, layer.kernel, layer.bias))


# Each function is called with the converter, the layer, and the layer's inputs.
_CONVERSIONS = {
    keras.layers.Dense: _Converter.dense_layer,
    keras.layers.Normalization: _Converter.standardization,
    layers.Dropout: lambda converter, layer, x: x,
    layers.BatchNorm: _Converter.batch_norm,
    table_encoding.TableEncoding: lambda converter, layer, x: layer.encoded(x),
    tabular.QuantileEncoding: lambda converter, layer, x: layer.encoded(x),
    transformer.Embedding: _Converter.embedding,
    transformer.PaddingMask: _Converter.padding_mask,
    transformer.Block: _Converter.block,
    transformer.Norm: _Converter.layer_norm,
    encoder_heads.GatherPositions: _Converter.gather_positions,
    encoder_heads.Bias: _Converter.bias,
    encoder_heads.ClsPooling: lambda converter, layer, x: x[:, 0],
    encoder_heads.MeanPooling: _Converter.mean_pooling,
    lstm_layers.Lengths: _Converter.padding_mask,
    lstm_layers.TokenEmbedding: _Converter.token_embedding,
    lstm_layers.VariationalDropout: lambda converter, layer, x: x,
    lstm_layers.Lstm: _Converter.lstm,
    lstm_layers.Pool: _Converter.pool,
    logits_mixture.LogitsMixture: _Converter.mixture,
    ngram_logits.FirstTokens: lambda converter, layer, tokens: tokens[:, : layer.count],
    ngram_logits.NgramLogits: _Converter.ngrams,
    ngram_mixture.NgramMixture: _Converter.ngram_mixture,
    word_logits.WordLogits: _Converter.word_logits,
}
_ACTIVATIONS = {
    # Written out: TensorFlow turns `ops.gelu` into an erfc, which neither LiteRT nor tf2onnx supports.
    "gelu": lambda x: 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5))),
    "gelu_new": lambda x: ops.gelu(x, approximate=True),
    "relu": ops.relu,
}


def _float32(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A copy of a Keras layer in float32, without its weights."""
    return type(layer).from_config({**layer.get_config(), "dtype": "float32"})


def _array(weight: Any) -> np.ndarray:
    return weight.numpy() if isinstance(weight, keras.Variable) else np.asarray(weight)


def _positions(x: Any) -> Any:
    """Positions 0, 1, 2, ... in each row of `[batch, time]`; time may be dynamic."""
    return ops.cumsum(ops.ones_like(x, dtype="int32"), axis=1) - 1


def _last(outputs: Any, mask: Any, bidirectional: bool) -> Any:
    lengths = ops.sum(mask, axis=1, keepdims=True)
    is_last = ops.cast(ops.equal(ops.cast(_positions(mask) + 1, "float32"), lengths), "float32")  # [batch, time]
    last = ops.sum(outputs * ops.expand_dims(is_last, 2), axis=1)  # [batch, width]
    if not bidirectional:
        return last
    half = outputs.shape[-1] // 2
    return ops.concatenate([last[:, :half], outputs[:, 0, half:]], axis=-1)  # [batch, width]


def _mean(outputs: Any, mask: Any) -> Any:
    return ops.sum(outputs * ops.expand_dims(mask, 2), axis=1) / ops.sum(mask, axis=1, keepdims=True)


def _max(outputs: Any, mask: Any) -> Any:
    # An LSTM's output is above -1.
    return ops.max(ops.where(ops.greater(ops.expand_dims(mask, 2), 0), outputs, -1.0), axis=1)
