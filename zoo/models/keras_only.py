"""The same network of Keras' own layers alone, in float32: what every other runtime can read.

The zoo's layers hold XLA programs, gradients written by hand, and noise that belongs to examples; none of it is needed
to predict. Where the zoo's layers have time first, these have the batch first, outputs included.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.models import encoder_heads, layers, lstm_layers, transformer

# Added to the scores of what may not be attended to; after the softmax it is 0 for any score, as of -infinity.
_UNSEEN = -1e30
# Of an LSTM's input gate at padding; its sigmoid is 0 in float32, for any text.
_SHUT = -1e4


def plain(model: keras.Model, segments: bool = False) -> keras.Model:
    """The model's twin; it loads and runs without the zoo.

    Args:
        model: of the zoo, of any precision.
        segments: whether the twin has the input `segments`, as for pairs of texts; else all of a text is the first.

    Returns:
        From the model's inputs, named as there (of an MLP `x`), to its first output, float32: of a language model
        `[batch, time, vocabulary]`, whichever network it is.

    Raises:
        TypeError: a layer is none of the zoo's and none of Keras'.
    """
    made = keras.models.clone_model(model, _inputs(model), lambda layer: layer, _Copies(segments))
    used = [each for each in made.inputs if segments or each.name != "segments"]
    return keras.Model(used[0] if len(used) == 1 else used, made.outputs[0], name="model")


def _inputs(model: keras.Model) -> Any:
    """Inputs that are named by what they are."""
    alone = len(model.inputs) == 1 and model.inputs[0].name != "tokens"
    return keras.tree.map_structure(
        lambda each: keras.Input(batch_shape=each.shape, dtype=each.dtype, name="x" if alone else each.name),
        model.input,
    )


class _Copies:
    """Calls, in the place of each of a model's layers, Keras' own layers with its weights."""

    def __init__(self, segments: bool):
        self._segments = segments
        # A layer that is called twice shares its weights in the copy, too; and all blocks share their mask.
        self._made: dict[Any, Any] = {}

    def __call__(self, layer: keras.layers.Layer, *inputs: Any, **options: Any) -> Any:
        options.pop("training", None)
        written = _WRITTEN.get(type(layer))
        if written is not None:
            return written(self, layer, *inputs, **options)
        if not type(layer).__module__.startswith("keras."):
            raise TypeError(f"{layer.name} is a {type(layer).__name__}: no layer of Keras is written for it")
        return self.made(layer.name, lambda: _same(layer), [each.numpy() for each in layer.weights], *inputs)

    def made(self, name: Any, make: Callable[[], keras.layers.Layer], weights: list, *inputs: Any, **options: Any):
        """Calls a layer; the first time it is made and given its weights."""
        is_new = name not in self._made
        found = self._made.setdefault(name, make() if is_new else None)
        outputs = found(*inputs, **options)
        if is_new and weights:
            found.set_weights([np.asarray(each, np.float32) for each in weights])
        return outputs

    def dense(self, name: str, inputs: Any, kernel: Any, bias: Any) -> Any:
        weights = [_array(kernel), _array(bias)]
        return self.made(name, lambda: keras.layers.Dense(weights[0].shape[1], name=name), weights, inputs)

    def norm(self, name: str, inputs: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
        make = lambda: keras.layers.LayerNormalization(epsilon=epsilon, name=name)  # noqa: E731
        return self.made(name, make, [_array(gamma), _array(beta)], inputs)

    def looked_up(self, layer: keras.layers.Layer, table: Any, inputs: Any, reverse: bool) -> Any:
        """Vectors of ids, or with the same matrix logits of vectors."""
        make = lambda: keras.layers.ReversibleEmbedding(layer.vocabulary, layer.width, name=layer.name)  # noqa: E731
        return self.made(layer.name, make, [_array(table)], inputs, **({"reverse": True} if reverse else {}))

    def unseen(self, seen: Any, causal: bool) -> Any:
        """What is added to scores `[batch, heads, time, time]`; once for all blocks."""
        key = "unseen", id(seen), causal
        if key not in self._made:
            allowed = ops.expand_dims(seen, [1, 2])
            if causal:
                places = _places(seen)
                earlier = ops.greater_equal(ops.expand_dims(places, 2), ops.expand_dims(places, 1))
                allowed = allowed * ops.cast(ops.expand_dims(earlier, 1), "float32")
            self._made[key] = (1.0 - allowed) * _UNSEEN
        return self._made[key]

    # What follows stands for one layer each.

    def batch_norm(self, layer: layers.BatchNorm, x: Any) -> Any:
        make = lambda: keras.layers.BatchNormalization(  # noqa: E731
            momentum=layer.momentum, epsilon=layer.epsilon, name=layer.name
        )
        weights = layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance
        return self.made(layer.name, make, [_array(each) for each in weights], x)

    def real(self, layer: keras.layers.Layer, tokens: Any) -> Any:
        """1.0 where a text is, 0.0 at padding, `[batch, time]`; an empty text has its first place."""
        # By name: Keras compares symbols by identity where `==` stands between them.
        return ops.cast(ops.logical_or(ops.not_equal(tokens, 0), ops.equal(_places(tokens), 0)), "float32")

    def embedding(self, layer: transformer.Embedding, tokens: Any, segments: Any = None, reverse: bool = False) -> Any:
        if reverse:
            return self.looked_up(layer, layer.token, tokens, reverse=True)
        places, kinds = _array(layer.position), _array(layer.segment) if layer.segments else None
        # Where all is the first segment, the two tables are one.
        places = places if kinds is None or self._segments else places + kinds[0]
        x = self.looked_up(layer, layer.token, tokens, reverse=False)
        x += self._table(f"{layer.name}_position", places, _places(tokens))
        if kinds is not None and self._segments:
            x += self._table(f"{layer.name}_segment", kinds, segments)
        return self.norm(f"{layer.name}_norm", x, layer.gamma, layer.beta, layer.epsilon) if layer.norm else x

    def _table(self, name: str, table: np.ndarray, ids: Any) -> Any:
        return self.made(name, lambda: keras.layers.Embedding(*table.shape, name=name), [table], ids)

    def block(self, layer: transformer.Block, inputs: Any, seen: Any) -> tuple[Any, Any]:
        name, depth = layer.name, inputs.shape[-1] // layer.heads

        def normed(part: str, x: Any, weights: Any) -> Any:
            return self.norm(f"{name}_{part}", x, *weights, layer.epsilon)

        first = layer.norm_first
        x = normed("attention_norm", inputs, layer.attention_norm) if first else inputs
        qkv = self.dense(f"{name}_attention_qkv", x, layer.qkv_kernel, layer.qkv_bias)
        split = ops.transpose(keras.layers.Reshape((-1, 3, layer.heads, depth))(qkv), (2, 0, 3, 1, 4))
        query, key, value = split[0], split[1], split[2]
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * (1.0 / math.sqrt(depth))
        maps = ops.softmax(scores + self.unseen(seen, layer.causal), axis=-1)
        merged = ops.transpose(ops.matmul(maps, value), (0, 2, 1, 3))
        merged = keras.layers.Reshape((-1, layer.heads * depth))(merged)
        x = inputs + self.dense(f"{name}_attention_output", merged, layer.output_kernel, layer.output_bias)
        x = x if first else normed("attention_norm", x, layer.attention_norm)
        middle = normed("norm", x, layer.norm) if first else x
        middle = self.dense(f"{name}_inner", middle, layer.inner_kernel, layer.inner_bias)
        outer = self.dense(
            f"{name}_outer", _ACTIVATIONS[layer.activation](middle), layer.outer_kernel, layer.outer_bias
        )
        return x + outer if first else normed("norm", x + outer, layer.norm), maps

    def layer_norm(self, layer: transformer.Norm, x: Any) -> Any:
        return self.norm(layer.name, x, layer.gamma, layer.beta, layer.epsilon)

    def at_places(self, layer: encoder_heads.GatherPositions, x: Any, places: Any) -> Any:
        return ops.take_along_axis(x, ops.expand_dims(places, 2), axis=1)

    def bias(self, layer: encoder_heads.Bias, x: Any) -> Any:
        # Of Keras' layers this is the one that can add a vector and do nothing else: 0 and 1 are its statistics.
        make = lambda: keras.layers.BatchNormalization(scale=False, epsilon=1e-12, name=layer.name)  # noqa: E731
        bias = _array(layer.bias)
        return self.made(layer.name, make, [bias, np.zeros_like(bias), np.ones_like(bias)], x)

    def mean_of_seen(self, layer: encoder_heads.MeanPooling, x: Any, seen: Any) -> Any:
        return _mean(x, seen)

    def token_embedding(self, layer: lstm_layers.TokenEmbedding, inputs: Any, reverse: bool = False) -> Any:
        return self.looked_up(layer, layer.embeddings, inputs, reverse)

    def lstm(self, layer: lstm_layers.Lstm, inputs: Any, real: Any) -> Any:
        outputs = [self._direction(layer, "forward", layer.directions[0], inputs)]
        if layer.bidirectional:
            # Padding comes first then; it shuts the input gate, so that the state is still 0 where the text begins.
            padding = ops.expand_dims(1.0 - real, 2)
            x = ops.concatenate([inputs, padding], axis=2)
            outputs.append(self._direction(layer, "backward", layer.directions[1], x))
        return ops.concatenate(outputs, axis=-1) if layer.bidirectional else outputs[0]

    def _direction(self, layer: lstm_layers.Lstm, name: str, source: keras.layers.LSTM, x: Any) -> Any:
        name, turned, cell = f"{layer.name}_{name}", name == "backward", source.cell
        kernel, gate = _array(cell.kernel), np.repeat([_SHUT, 0.0, 0.0, 0.0], layer.units)
        kernel = np.concatenate([kernel, gate[None]]) if turned else kernel
        weights = [kernel, _array(cell.recurrent_kernel), _array(cell.bias)]
        options = {"return_sequences": True, "go_backwards": turned, "name": name}
        outputs = self.made(name, lambda: keras.layers.LSTM(layer.units, **options), weights, x)
        return ops.flip(outputs, axis=1) if turned else outputs

    def pool(self, layer: lstm_layers.Pool, outputs: Any, real: Any) -> Any:
        made = {"last": _last, "mean": lambda *given: _mean(*given[:2]), "max": lambda *given: _max(*given[:2])}
        if layer.kind == "concat":
            return ops.concatenate([made[kind](outputs, real, layer) for kind in ("last", "max", "mean")], axis=-1)
        if layer.kind != "attention":
            return made[layer.kind](outputs, real, layer)
        width = outputs.shape[-1]
        hidden = self.dense(f"{layer.name}_hidden", outputs, layer.hidden, np.zeros(width))
        scores = self.dense(f"{layer.name}_query", ops.tanh(hidden), layer.query, np.zeros(1))
        scores += ops.expand_dims((1.0 - real) * _UNSEEN, 2)
        return ops.sum(ops.softmax(scores, axis=1) * outputs, axis=1)

    def standardized(self, layer: keras.layers.Normalization, x: Any) -> Any:
        # Its statistics are no weights: tf2onnx would ask for them as inputs.
        mean, scale = (np.asarray(each, np.float32)[0] for each in (layer.mean, 1.0 / np.sqrt(layer.variance)))
        x = keras.layers.Rescaling(1.0, (-mean).tolist(), name=f"{layer.name}_mean")(x)
        return keras.layers.Rescaling(scale.tolist(), name=f"{layer.name}_scale")(x)

    def dense_layer(self, layer: keras.layers.Dense, x: Any) -> Any:
        name = getattr(layer.activation, "__name__", "")
        if name not in ("gelu", "gelu_new"):
            return self.made(layer.name, lambda: _same(layer), [each.numpy() for each in layer.weights], x)
        return _ACTIVATIONS[name](self.dense(layer.name, x, layer.kernel, layer.bias))


# Each is called with the copies, the layer, and what the layer is called with.
_WRITTEN = {
    keras.layers.Dense: _Copies.dense_layer,
    keras.layers.Normalization: _Copies.standardized,
    layers.Dropout: lambda copies, layer, x: x,
    layers.BatchNorm: _Copies.batch_norm,
    transformer.Embedding: _Copies.embedding,
    transformer.PaddingMask: _Copies.real,
    transformer.Block: _Copies.block,
    transformer.Norm: _Copies.layer_norm,
    encoder_heads.GatherPositions: _Copies.at_places,
    encoder_heads.Bias: _Copies.bias,
    encoder_heads.ClsPooling: lambda copies, layer, x: x[:, 0],
    encoder_heads.MeanPooling: _Copies.mean_of_seen,
    lstm_layers.Lengths: _Copies.real,
    lstm_layers.TokenEmbedding: _Copies.token_embedding,
    lstm_layers.VariationalDropout: lambda copies, layer, x: x,
    lstm_layers.Lstm: _Copies.lstm,
    lstm_layers.Pool: _Copies.pool,
}
_ACTIVATIONS = {
    # Written out: of `ops.gelu` TensorFlow makes an erfc, which neither LiteRT nor tf2onnx knows.
    "gelu": lambda x: 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5))),
    "gelu_new": lambda x: ops.gelu(x, approximate=True),
    "relu": ops.relu,
}


def _same(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Another of Keras' layers, in float32."""
    return type(layer).from_config({**layer.get_config(), "dtype": "float32"})


def _array(weight: Any) -> np.ndarray:
    return weight.numpy() if isinstance(weight, keras.Variable) else np.asarray(weight)


def _places(x: Any) -> Any:
    """0, 1, 2, ... in each row of `[batch, time]`, whatever time is."""
    return ops.cumsum(ops.ones_like(x, dtype="int32"), axis=1) - 1


def _last(outputs: Any, real: Any, layer: lstm_layers.Pool) -> Any:
    lengths = ops.sum(real, axis=1, keepdims=True)
    chosen = ops.cast(ops.equal(ops.cast(_places(real) + 1, "float32"), lengths), "float32")
    last = ops.sum(outputs * ops.expand_dims(chosen, 2), axis=1)
    if not layer.bidirectional:
        return last
    half = outputs.shape[-1] // 2
    return ops.concatenate([last[:, :half], outputs[:, 0, half:]], axis=-1)


def _mean(outputs: Any, real: Any) -> Any:
    return ops.sum(outputs * ops.expand_dims(real, 2), axis=1) / ops.sum(real, axis=1, keepdims=True)


def _max(outputs: Any, real: Any) -> Any:
    # An LSTM's output is above -1.
    return ops.max(ops.where(ops.greater(ops.expand_dims(real, 2), 0), outputs, -1.0), axis=1)
