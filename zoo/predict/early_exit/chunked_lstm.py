"""An LSTM classifier that reads texts chunk by chunk, many at once, and has an answer after each chunk."""

from collections import deque
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import BadInput
from zoo.models import lstm_layers, lstm_scan
from zoo.models.layers import Dropout

# Texts that are read at once; each size is compiled once, a second. 1 is for streams, 256 keeps the cores busy.
_SIZES = (1, 16, 64, 256)
_KINDS = (
    keras.layers.InputLayer,
    lstm_layers.Lengths,
    lstm_layers.TokenEmbedding,
    lstm_layers.VariationalDropout,
    lstm_layers.Lstm,
    lstm_layers.Pool,
    Dropout,
    keras.layers.Dense,
)
_LOWEST = -1e30


class ChunkedLstm:
    """A model of `zoo.models.lstm.classifier` as one program for each number of texts.

    Args:
        model: reads in one direction.
        size: tokens of a chunk.

    Raises:
        BadInput: it reads in both, or is another model.
    """

    def __init__(self, model: keras.Model, size: int):
        _check(model)
        self.size, self._model = size, model
        self._layers = [layer for layer in model.layers if isinstance(layer, lstm_layers.Lstm)]
        self._pool = model.get_layer("pool")
        self._program = tf.function(self._chunk, jit_compile=True, autograph=False)

    def batch(self, tokens: np.ndarray, texts: int) -> "ChunkBatch":
        """Room for reading texts, of which there are so many, from tokens `[texts, time]`."""
        return ChunkBatch(self, tokens, next((size for size in _SIZES if size >= texts), _SIZES[-1]))

    def empty(self, rows: int) -> dict[str, Any]:
        """The state before the first token: of the LSTMs, and what the pooling has seen of the last one's outputs."""
        units = self._layers[-1].units
        state = {"lstm": [(tf.zeros((rows, layer.units)),) * 2 for layer in self._layers]}
        state["sum"] = tf.zeros((rows, units))
        if self._pool.kind == "attention":
            return state | {"top": tf.fill((rows, 1), _LOWEST), "weight": tf.zeros((rows, 1))}
        # An LSTM's output is above -1.
        return state | {"max": -tf.ones((rows, units))}

    def read(self, tokens: np.ndarray, before: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Reads on.

        Args:
            tokens: int32 `[rows, size]`, padded with 0 at the end of a text.
            before: int32 `[rows]`, tokens that were read of each text.
            state: after these; of a text that begins it may be any.

        Returns:
            The model's output for what was read so far, float32 `[rows, logits]`, and the next state.
        """
        inputs = tf.constant(tokens), tf.constant(before)
        specs = tf.nest.map_structure(lambda one: tf.TensorSpec(one.shape, one.dtype), (*inputs, state))
        # By name: called like a function, TensorFlow would warn of the few compilations.
        logits, state = self._program.get_concrete_function(*specs)(*inputs, state)
        return logits.numpy(), state

    def _chunk(self, tokens, before, state):
        fresh = before == 0
        state = tf.nest.map_structure(
            lambda start, old: tf.where(fresh[:, None], start, old), self.empty(tokens.shape[0]), state
        )
        # An empty text is one token of padding.
        real = (tokens != 0) | (fresh[:, None] & (tf.range(self.size) == 0))
        x, after = self._model.get_layer("embedding")(tokens), []
        for layer, (h, c) in zip(self._layers, state["lstm"]):
            cell = layer.directions[0].cell
            weights = (cell.kernel, cell.recurrent_kernel, cell.bias)
            weights = (tf.cast(tf.convert_to_tensor(weight), tf.float32) for weight in weights)
            x, h, c = lstm_scan.lstm_from_state(tf.cast(x, tf.float32), *weights, h, c)
            x = tf.cast(x, layer.compute_dtype)
            after.append((h, c))
        pooled, seen = self._pooled(tf.cast(x, tf.float32), tf.transpose(real)[:, :, None], before, state)
        return self._model.get_layer("head")(pooled), {"lstm": after, **seen}

    def _pooled(self, outputs, real, before, state):
        """What the head reads, and the pooling's state; of `outputs` `[size, rows, units]`, where `real` is true."""
        if self._pool.kind == "attention":
            return self._attended(outputs, real, state)
        new = tf.reduce_sum(tf.cast(real, tf.int32), axis=0)
        ends = tf.range(self.size)[:, None, None] == new[None] - 1
        last = tf.reduce_sum(tf.where(ends, outputs, 0.0), axis=0)
        seen = {
            "sum": state["sum"] + tf.reduce_sum(tf.where(real, outputs, 0.0), axis=0),
            "max": tf.maximum(state["max"], tf.reduce_max(tf.where(real, outputs, -1.0), axis=0)),
        }
        mean = seen["sum"] / tf.cast(before[:, None] + new, tf.float32)
        known = {"last": last, "max": seen["max"], "mean": mean}
        # In the order of `recurrent.Pool`.
        known["concat"] = tf.concat(list(known.values()), axis=-1)
        return known[self._pool.kind], seen

    def _attended(self, outputs, real, state):
        """A softmax over all tokens so far, of which the largest score is kept, so that none overflows."""
        scores = tf.matmul(tf.tanh(tf.matmul(outputs, self._pool.hidden)), self._pool.query)
        scores = tf.where(real, scores, _LOWEST)
        top = tf.maximum(state["top"], tf.reduce_max(scores, axis=0))
        weights, old = tf.where(real, tf.exp(scores - top), 0.0), tf.exp(state["top"] - top)
        weight = state["weight"] * old + tf.reduce_sum(weights, axis=0)
        total = state["sum"] * old + tf.reduce_sum(weights * outputs, axis=0)
        return total / weight, {"top": top, "weight": weight, "sum": total}


class ChunkBatch:
    """Texts being read, each at a place of its own.

    Attributes:
        live: bool `[rows]`, where a text is being read.
    """

    def __init__(self, chunks: ChunkedLstm, tokens: np.ndarray, rows: int):
        missing = -tokens.shape[1] % chunks.size
        padded = np.pad(tokens, ((0, 0), (0, missing)))
        self._tokens = padded.reshape(len(tokens), padded.shape[1] // chunks.size, chunks.size)
        self._chunks, self._state = chunks, chunks.empty(rows)
        self._texts, self._stages = np.zeros(rows, int), np.zeros(rows, int)
        self.live = np.zeros(rows, bool)

    def fill(self, waiting: deque[int]) -> None:
        """Begins texts of these numbers where there is room; moves the last ones together where nobody waits."""
        for row in np.flatnonzero(~self.live)[: len(waiting)]:
            self._texts[row], self._stages[row], self.live[row] = waiting.popleft(), 0, True
        size = next(size for size in _SIZES if size >= self.live.sum())
        if size < len(self.live):
            # What is live first, and then whatever follows.
            rows = np.argsort(~self.live, kind="stable")[:size]
            self._state = tf.nest.map_structure(lambda one: tf.gather(one, rows), self._state)
            self._texts, self._stages, self.live = self._texts[rows], self._stages[rows], self.live[rows]

    def read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One chunk of each text: numbers of the texts and of the chunks, and the model's output `[texts, logits]`."""
        tokens = self._tokens[self._texts, self._stages]
        before = (self._stages * self._chunks.size).astype(np.int32)
        logits, self._state = self._chunks.read(tokens, before, self._state)
        return self._texts[self.live], self._stages[self.live], logits[self.live]

    def leave(self, done: np.ndarray) -> None:
        """Those of the texts just read that are done leave, the others are at their next chunk."""
        rows = np.flatnonzero(self.live)
        self._stages[rows[~done]] += 1
        self.live[rows[done]] = False


def _check(model: keras.Model) -> None:
    kinds = {type(layer).__name__ for layer in model.layers if not isinstance(layer, _KINDS)}
    lstms = [layer for layer in model.layers if isinstance(layer, lstm_layers.Lstm)]
    if kinds or not lstms:
        found = ", ".join(sorted(kinds)) or "no LSTM"
        raise BadInput(f"early reading is for classifiers of texts by an LSTM: the model has {found}")
    if any(layer.bidirectional for layer in lstms):
        raise BadInput(
            "early reading: the model reads backwards, too, for which it must have a text's end before it can answer; "
            "expected one trained without --bidirectional"
        )
