"""The KV cache of language models: keys and values of earlier tokens are kept, so that only new tokens are computed.

`TransformerCache` and `LstmState` have the same methods. `empty` is the state before the first token. `read` takes
tokens int32 `[rows, new]` that follow `start` others, of which the first `length` count (the rest is padding to a size
that is compiled already); it returns the last layer's outputs `[rows, new, width]` and the next state. `logits` maps
these outputs to the vocabulary. A state is a nest of tensors with the rows first, so that a gather selects rows. The
logits equal those of `forward`, the model's own pass over whole sequences.
"""

import math

import keras
import tensorflow as tf

from zoo.models import lstm_layers, transformer


class TransformerCache:
    """A causal `zoo.models.transformer` with a cache of each layer's keys and values (Pope et al., 2023, section 2.1).

    Attributes:
        context: most tokens that a state can hold.
    """

    def __init__(self, model: keras.Model):
        self._model = model
        self._embedding = model.get_layer("embedding")
        self._blocks = [layer for layer in model.layers if isinstance(layer, transformer.Block)]
        # A pre-norm model has one normalisation more than its blocks.
        self._norms = [layer for layer in model.layers if isinstance(layer, transformer.Norm)]
        self.context = self._embedding.positions

    def forward(self, tokens: tf.Tensor) -> tf.Tensor:
        """Logits of what follows each of the tokens, `[rows, time]` to float32 `[rows, time, vocabulary]`."""
        return self._model(tokens, training=False)

    def empty(self, rows: int, size: int) -> tuple:
        """Room for `size` tokens: of each layer keys and values, `[rows, heads, size, depth]`."""
        depth = self._embedding.width // self._blocks[0].heads
        shape = rows, self._blocks[0].heads, size, depth
        return tuple((tf.zeros(shape, block.compute_dtype),) * 2 for block in self._blocks)

    def read(self, tokens: tf.Tensor, state: tuple, start: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, tuple]:
        """See the module; what padding leaves in the state is overwritten before a token may attend to it."""
        x, after = self._embedding(tokens, start=start), []
        for block, (keys, values) in zip(self._blocks, state):
            x, keys, values = _block(block, x, keys, values, start)
            after.append((keys, values))
        for norm in self._norms:
            x = norm(x)
        return x, tuple(after)

    def logits(self, outputs: tf.Tensor) -> tf.Tensor:
        """`[rows, new, width]` to float32 `[rows, new, vocabulary]`."""
        return self._embedding(outputs, reverse=True)


class LstmState:
    """A language model of `zoo.models.lstm`, whose state after a token is all that it knows of the text.

    Attributes:
        context: None, as a text of any length fits in.
    """

    context = None

    def __init__(self, model: keras.Model):
        self._model = model
        layers = {layer.name: layer for layer in model.layers}
        self._embedding = layers["embedding"]
        self._layers = [layer for layer in model.layers if isinstance(layer, lstm_layers.Lstm)]
        self._narrow = layers.get("narrow")
        self._last = layers.get("head", self._embedding)

    def forward(self, tokens: tf.Tensor) -> tf.Tensor:
        """Logits of what follows each of the tokens, `[rows, time]` to float32 `[rows, time, vocabulary]`."""
        return tf.transpose(self._model(tokens, training=False), [1, 0, 2])

    def empty(self, rows: int, size: int) -> tuple:
        """Of each layer output and cell, `[rows, units]`; their size is always the same."""
        return tuple((tf.zeros((rows, layer.units)),) * 2 for layer in self._layers)

    def read(self, tokens: tf.Tensor, state: tuple, start: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, tuple]:
        """See the module; where a token stands makes no difference."""
        x, after = self._embedding(tokens), []
        for layer, (h, c) in zip(self._layers, state):
            x, h, c = _recurrence(layer.directions[0].cell, tf.cast(x, tf.float32), h, c, length)
            after.append((h, c))
        x = self._narrow(x) if self._narrow else x
        return tf.transpose(x, [1, 0, 2]), tuple(after)

    def logits(self, outputs: tf.Tensor) -> tf.Tensor:
        """`[rows, new, width]` to float32 `[rows, new, vocabulary]`."""
        return tf.transpose(self._last(tf.transpose(outputs, [1, 0, 2]), reverse=True), [1, 0, 2])


def network(model: keras.Model) -> TransformerCache | LstmState:
    """The one of the two that the model is.

    Raises:
        ValueError: it is neither, or sees later tokens.
    """
    blocks = [layer for layer in model.layers if isinstance(layer, transformer.Block)]
    lstms = [layer for layer in model.layers if isinstance(layer, lstm_layers.Lstm)]
    if len(model.output_shape) == 3 and blocks and all(block.causal for block in blocks):
        return TransformerCache(model)
    if len(model.output_shape) == 3 and lstms and not any(layer.bidirectional for layer in lstms):
        return LstmState(model)
    raise ValueError("expected causal Transformer blocks or one-way LSTMs, and logits of each token")


def _block(block: transformer.Block, x: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, start: tf.Tensor):
    """A block's outputs of the new tokens, and the keys and values with theirs in place."""
    query, key, value = block.projected(x)
    keys, values = _with(keys, key, start), _with(values, value, start)
    scores = tf.cast(tf.matmul(query, keys, transpose_b=True), tf.float32) / math.sqrt(query.shape[-1])
    allowed = start + tf.range(x.shape[1])[:, None] >= tf.range(keys.shape[2])
    probabilities = tf.nn.softmax(tf.where(allowed, scores, tf.float32.min))
    return block.finished(x, tf.matmul(tf.cast(probabilities, values.dtype), values)), keys, values


def _with(old: tf.Tensor, new: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """`old` `[rows, heads, size, depth]` with `new` in its place from `start` on; what does not fit in is left out."""
    places = tf.range(old.shape[2]) - start
    inside = (places >= 0) & (places < new.shape[2])
    moved = tf.gather(new, tf.clip_by_value(places, 0, new.shape[2] - 1), axis=2)
    return tf.where(inside[:, None], moved, old)


def _recurrence(cell, x: tf.Tensor, h: tf.Tensor, c: tf.Tensor, length: tf.Tensor):
    """An LSTM's outputs `[time, rows, units]`, zeros from `length` on, and its state after that many steps."""
    kernel, recurrent_kernel, bias = (
        tf.cast(tf.convert_to_tensor(weight), tf.float32) for weight in (cell.kernel, cell.recurrent_kernel, cell.bias)
    )
    projected = tf.einsum("tbw,wu->tbu", x, kernel) + bias

    def step(t, h, c, outputs):
        i, f, g, o = tf.split(projected[t] + tf.matmul(h, recurrent_kernel), 4, axis=-1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
        return t + 1, h, c, outputs.write(t, h)

    # All steps are given a value, or the ones that are not run would have no shape.
    outputs = tf.TensorArray(tf.float32, x.shape[0], element_shape=h.shape).unstack(tf.zeros((x.shape[0], *h.shape)))
    # With a known most, XLA can compile the loop's gradient too.
    start, most = (tf.constant(0), h, c, outputs), x.shape[0]
    _, h, c, outputs = tf.while_loop(lambda t, *_: t < length, step, start, maximum_iterations=most)
    return outputs.stack(), h, c
