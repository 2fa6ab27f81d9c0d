"""KV cache of language models: keys and values of earlier tokens are stored, so that only new tokens are computed.

`TransformerCache` and `LstmState` have the same methods. `empty` is the state before the first token. `read` takes new
tokens int32 `[rows, new]` after `start` earlier ones; the first `length` of them are real, the rest pads to a compiled
size. It returns the last layer's outputs `[rows, new, width]` (with n-grams, a nest of these and others) and the next
state. `logits` maps these outputs to the vocabulary. A state is a nest of tensors with the rows first, so that a gather
selects rows. The logits equal those of `forward`, the model's own pass over whole sequences.
"""

import math

import keras
import tensorflow as tf

from zoo.models import lstm_layers, transformer
from zoo.models.ngram_mixture import NgramMixture


class TransformerCache:
    """A causal `zoo.models.transformer` with a cache of each layer's keys and values (Pope et al., 2023, section 2.1).

    Attributes:
        context: maximum number of tokens in a state.
    """

    def __init__(self, model: keras.Model):
        self._model = model
        self._embedding = model.get_layer("embedding")
        self._blocks = [layer for layer in model.layers if isinstance(layer, transformer.Block)]
        # A pre-norm model has a final normalisation after its blocks.
        self._norms = [layer for layer in model.layers if isinstance(layer, transformer.Norm)]
        self.context = self._embedding.positions

    def forward(self, tokens: tf.Tensor) -> tf.Tensor:
        """Next-token logits: `[rows, time]` to float32 `[rows, time, vocabulary]`."""
        return self._model(tokens, training=False)

    def empty(self, rows: int, size: int) -> tuple:
        """A cache for `size` tokens: keys and values of each layer, `[rows, heads, size, depth]`."""
        depth = self._embedding.width // self._blocks[0].heads
        shape = rows, self._blocks[0].heads, size, depth
        return tuple((tf.zeros(shape, block.compute_dtype),) * 2 for block in self._blocks)

    def read(self, tokens: tf.Tensor, state: tuple, start: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, tuple]:
        """Outputs and next state (see the module); padding's entries are overwritten before a token attends to them."""
        x, next_state = self._embedding(tokens, start=start), []
        for block, (keys, values) in zip(self._blocks, state):
            x, keys, values = _block(block, x, keys, values, start)
            next_state.append((keys, values))
        for norm in self._norms:
            x = norm(x)
        return x, tuple(next_state)

    def logits(self, outputs: tf.Tensor) -> tf.Tensor:
        """`[rows, new, width]` to float32 `[rows, new, vocabulary]`."""
        return self._embedding(outputs, reverse=True)


class MixtureCache(TransformerCache):
    """A `TransformerCache` of a model with an n-gram mixture: its state and outputs hold the last tokens, too."""

    def __init__(self, model: keras.Model, ngrams: NgramMixture):
        super().__init__(model)
        self._ngrams = ngrams

    def empty(self, rows: int, size: int) -> tuple:
        """A cache, and no last tokens: int32 `[rows, longest]`."""
        return super().empty(rows, size), tf.zeros((rows, self._ngrams.longest), tf.int32)

    def read(self, tokens: tf.Tensor, state: tuple, start: tf.Tensor, length: tf.Tensor) -> tuple[tuple, tuple]:
        """Outputs and the last tokens at each; and the next state."""
        cache, last = state
        outputs, cache = super().read(tokens, cache, start, length)
        together, longest = tf.concat([last, tokens], axis=1), self._ngrams.longest  # [rows, longest + new]
        histories = self._ngrams.histories(together)[:, longest:]  # [rows, new, longest]
        return (outputs, histories), (cache, tf.gather(together, length + tf.range(longest), axis=1))

    def logits(self, outputs: tuple) -> tf.Tensor:
        """Log-probabilities, float32 `[rows, new, vocabulary]`."""
        return self._ngrams.mix(super().logits(outputs[0]), outputs[1])


class LstmState:
    """A language model of `zoo.models.lstm`; its recurrent state has a fixed size.

    Attributes:
        context: None: texts may have any length.
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
        """Next-token logits: `[rows, time]` to float32 `[rows, time, vocabulary]`."""
        return tf.transpose(self._model(tokens, training=False), [1, 0, 2])  # [rows, time, vocabulary]

    def empty(self, rows: int, size: int) -> tuple:
        """Output and cell of each layer, `[rows, units]`, for any `size`."""
        return tuple((tf.zeros((rows, layer.units)),) * 2 for layer in self._layers)

    def read(self, tokens: tf.Tensor, state: tuple, start: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, tuple]:
        """Outputs and next state (see the module); `start` is not used."""
        x, next_state = self._embedding(tokens), []  # [new, rows, width]
        for layer, (h, c) in zip(self._layers, state):
            x, h, c = _recurrence(layer.directions[0].cell, tf.cast(x, tf.float32), h, c, length)
            next_state.append((h, c))
        x = self._narrow(x) if self._narrow else x
        return tf.transpose(x, [1, 0, 2]), tuple(next_state)  # [rows, new, width]

    def logits(self, outputs: tf.Tensor) -> tf.Tensor:
        """`[rows, new, width]` to float32 `[rows, new, vocabulary]`."""
        time_major = tf.transpose(outputs, [1, 0, 2])  # [new, rows, width]
        return tf.transpose(self._last(time_major, reverse=True), [1, 0, 2])  # [rows, new, vocabulary]


def network(model: keras.Model) -> TransformerCache | LstmState:
    """The model as one of the two classes.

    Raises:
        ValueError: the model is neither, or it attends to later tokens.
    """
    blocks = [layer for layer in model.layers if isinstance(layer, transformer.Block)]
    lstms = [layer for layer in model.layers if isinstance(layer, lstm_layers.Lstm)]
    if len(model.output_shape) == 3 and blocks and all(block.causal for block in blocks):
        ngrams = [layer for layer in model.layers if isinstance(layer, NgramMixture)]
        return MixtureCache(model, ngrams[0]) if ngrams else TransformerCache(model)
    if len(model.output_shape) == 3 and lstms and not any(layer.bidirectional for layer in lstms):
        return LstmState(model)
    raise ValueError("expected causal Transformer blocks or one-way LSTMs, and logits of each token")


def _block(block: transformer.Block, x: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, start: tf.Tensor):
    """A block's outputs for the new tokens `[rows, new, width]`, and the updated keys and values."""
    query, key, value = block.project_qkv(x)  # [rows, heads, new, depth] each
    keys, values = _updated(keys, key, start), _updated(values, value, start)
    # [rows, heads, new, size]
    scores = tf.cast(tf.matmul(query, keys, transpose_b=True), tf.float32) / math.sqrt(query.shape[-1])
    allowed = start + tf.range(x.shape[1])[:, None] >= tf.range(keys.shape[2])  # [new, size]
    probabilities = tf.nn.softmax(tf.where(allowed, scores, tf.float32.min))
    return block.after_attention(x, tf.matmul(tf.cast(probabilities, values.dtype), values)), keys, values


def _updated(cache: tf.Tensor, new: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """The cache `[rows, heads, size, depth]` with `new` written from `start` on; entries beyond the end are dropped."""
    positions = tf.range(cache.shape[2]) - start  # [size]
    is_new = (positions >= 0) & (positions < new.shape[2])
    # [rows, heads, size, depth]
    shifted = tf.gather(new, tf.clip_by_value(positions, 0, new.shape[2] - 1), axis=2)
    return tf.where(is_new[:, None], shifted, cache)


def _recurrence(cell, x: tf.Tensor, h: tf.Tensor, c: tf.Tensor, length: tf.Tensor):
    """An LSTM's outputs `[time, rows, units]`, zeros from step `length` on, and its state after `length` steps."""
    kernel, recurrent_kernel, bias = (
        tf.cast(tf.convert_to_tensor(weight), tf.float32) for weight in (cell.kernel, cell.recurrent_kernel, cell.bias)
    )
    projected = tf.einsum("tbw,wu->tbu", x, kernel) + bias  # [time, rows, 4 * units]

    def step(t, h, c, outputs):
        i, f, g, o = tf.split(projected[t] + tf.matmul(h, recurrent_kernel), 4, axis=-1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
        return t + 1, h, c, outputs.write(t, h)

    # All steps are initialised, or those that are not run would have no shape.
    outputs = tf.TensorArray(tf.float32, x.shape[0], element_shape=h.shape).unstack(tf.zeros((x.shape[0], *h.shape)))
    # With maximum_iterations, XLA can compile the loop's gradient too.
    start, steps = (tf.constant(0), h, c, outputs), x.shape[0]
    _, h, c, outputs = tf.while_loop(lambda t, *_: t < length, step, start, maximum_iterations=steps)
    return outputs.stack(), h, c  # [time, rows, units], [rows, units], [rows, units]
