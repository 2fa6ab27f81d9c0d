"""Chunked LSTM: a classifier reads texts chunk by chunk, many at once, and has a prediction after each chunk."""

from collections import deque
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import BadInput
from zoo.models import lstm_layers, lstm_scan
from zoo.models.layers import Dropout
from zoo.predict.predictors.compiled_programs import CompiledPrograms, next_size

# Batch sizes; compiling a program for one takes a second. 1 is for streams, 256 keeps the cores busy.
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
    """A model of `zoo.models.lstm.classifier` as one program for each batch size.

    Args:
        model: a classifier that reads in one direction.
        size: tokens per chunk.

    Raises:
        BadInput: the model is bidirectional, or not an LSTM classifier.
    """

    def __init__(self, model: keras.Model, size: int):
        _check(model)
        self.size, self._model = size, model
        self._layers = [layer for layer in model.layers if isinstance(layer, lstm_layers.Lstm)]
        self._pool = model.get_layer("pool")
        self._programs = CompiledPrograms(self._chunk, jit_compile=True)

    def batch(self, tokens: np.ndarray, texts: int) -> "ChunkBatch":
        """An empty batch, large enough for a number of texts, that reads from tokens `[all texts, time]`."""
        return ChunkBatch(self, tokens, next_size(texts, _SIZES))

    def empty(self, rows: int) -> dict[str, Any]:
        """The state before the first token: of the LSTMs, and of the pooling over the last LSTM's outputs."""
        units = self._layers[-1].units
        state = {"lstm": [(tf.zeros((rows, layer.units)),) * 2 for layer in self._layers]}
        state["sum"] = tf.zeros((rows, units))
        if self._pool.kind == "attention":
            return state | {"top": tf.fill((rows, 1), _LOWEST), "weight": tf.zeros((rows, 1))}
        # An LSTM's output is above -1.
        return state | {"max": -tf.ones((rows, units))}

    def read(self, tokens: np.ndarray, before: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Reads the next chunk of each text.

        Args:
            tokens: int32 `[rows, size]`, padded with 0 at the end of a text.
            before: int32 `[rows]`, how many tokens of each text were read before.
            state: the state after these tokens; ignored where `before` is 0.

        Returns:
            The model's output for the tokens so far, float32 `[rows, logits]`, and the next state.
        """
        logits, state = self._programs(tf.constant(tokens), tf.constant(before), state)
        return logits.numpy(), state

    def _chunk(self, tokens, before, state):
        first = before == 0
        state = tf.nest.map_structure(
            lambda start, old: tf.where(first[:, None], start, old), self.empty(tokens.shape[0]), state
        )
        # An empty text is read as one token of padding.
        real = (tokens != 0) | (first[:, None] & (tf.range(self.size) == 0))  # [rows, size]
        x, after = self._model.get_layer("embedding")(tokens), []  # [size, rows, width]
        for layer, (h, c) in zip(self._layers, state["lstm"]):
            cell = layer.directions[0].cell
            weights = (cell.kernel, cell.recurrent_kernel, cell.bias)
            weights = (tf.cast(tf.convert_to_tensor(weight), tf.float32) for weight in weights)
            x, h, c = lstm_scan.lstm_from_state(tf.cast(x, tf.float32), *weights, h, c)  # x: [size, rows, units]
            x = tf.cast(x, layer.compute_dtype)
            after.append((h, c))
        real = tf.transpose(real)[:, :, None]  # [size, rows, 1]
        pooled, pooling = self._pooled(tf.cast(x, tf.float32), real, before, state)
        return self._model.get_layer("head")(pooled), {"lstm": after, **pooling}

    def _pooled(self, outputs, real, before, state):
        """The head's input and the pooling's next state, from `outputs` `[size, rows, units]` where `real` is true."""
        if self._pool.kind == "attention":
            return self._attended(outputs, real, state)
        new = tf.reduce_sum(tf.cast(real, tf.int32), axis=0)  # [rows, 1]
        ends = tf.range(self.size)[:, None, None] == new[None] - 1  # [size, rows, 1]
        last = tf.reduce_sum(tf.where(ends, outputs, 0.0), axis=0)  # [rows, units], as the sum and maximum below
        after = {
            "sum": state["sum"] + tf.reduce_sum(tf.where(real, outputs, 0.0), axis=0),
            "max": tf.maximum(state["max"], tf.reduce_max(tf.where(real, outputs, -1.0), axis=0)),
        }
        mean = after["sum"] / tf.cast(before[:, None] + new, tf.float32)
        pooled = {"last": last, "max": after["max"], "mean": mean}
        # In the order of `lstm_layers.Pool`.
        pooled["concat"] = tf.concat(list(pooled.values()), axis=-1)  # [rows, 3 * units]
        return pooled[self._pool.kind], after

    def _attended(self, outputs, real, state):
        """Attention pooling by an online softmax over all tokens so far; the largest score is kept against overflow."""
        scores = tf.matmul(tf.tanh(tf.matmul(outputs, self._pool.hidden)), self._pool.query)  # [size, rows, 1]
        scores = tf.where(real, scores, _LOWEST)
        top = tf.maximum(state["top"], tf.reduce_max(scores, axis=0))  # [rows, 1]
        weights, old = tf.where(real, tf.exp(scores - top), 0.0), tf.exp(state["top"] - top)
        weight = state["weight"] * old + tf.reduce_sum(weights, axis=0)
        total = state["sum"] * old + tf.reduce_sum(weights * outputs, axis=0)  # [rows, units]
        return total / weight, {"top": top, "weight": weight, "sum": total}


class ChunkBatch:
    """A batch of texts, each at its own chunk.

    Attributes:
        live: bool `[rows]`, whether a row holds an unfinished text.
    """

    def __init__(self, chunks: ChunkedLstm, tokens: np.ndarray, rows: int):
        missing = -tokens.shape[1] % chunks.size
        padded = np.pad(tokens, ((0, 0), (0, missing)))
        self._tokens = padded.reshape(len(tokens), padded.shape[1] // chunks.size, chunks.size)  # [texts, chunks, size]
        self._chunks, self._state = chunks, chunks.empty(rows)
        self._texts, self._stages = np.zeros(rows, int), np.zeros(rows, int)
        self.live = np.zeros(rows, bool)

    def fill(self, waiting: deque[int]) -> None:
        """Starts waiting texts, by number, in free rows; moves the live rows to a smaller batch where one will do."""
        for row in np.flatnonzero(~self.live)[: len(waiting)]:
            self._texts[row], self._stages[row], self.live[row] = waiting.popleft(), 0, True
        size = next_size(self.live.sum(), _SIZES)
        if size < len(self.live):
            # Live rows first, then any others.
            rows = np.argsort(~self.live, kind="stable")[:size]
            self._state = tf.nest.map_structure(lambda one: tf.gather(one, rows), self._state)  # [size, ...]
            self._texts, self._stages, self.live = self._texts[rows], self._stages[rows], self.live[rows]

    def read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reads one chunk of each live text: text numbers, chunk numbers, and the model's output `[texts, logits]`."""
        tokens = self._tokens[self._texts, self._stages]
        before = (self._stages * self._chunks.size).astype(np.int32)
        logits, self._state = self._chunks.read(tokens, before, self._state)
        return self._texts[self.live], self._stages[self.live], logits[self.live]

    def leave(self, done: np.ndarray) -> None:
        """Frees the rows of texts that are done, bool over the texts just read; the others move to their next chunk."""
        rows = np.flatnonzero(self.live)
        self._stages[rows[~done]] += 1
        self.live[rows[done]] = False


def _check(model: keras.Model) -> None:
    kinds = {type(layer).__name__ for layer in model.layers if not isinstance(layer, _KINDS)}
    lstms = [layer for layer in model.layers if isinstance(layer, lstm_layers.Lstm)]
    if kinds or not lstms:
        names = ", ".join(sorted(kinds)) or "no LSTM"
        raise BadInput(
            f"early exit is for classifiers of texts by an LSTM alone: the model has {names}; expected one trained "
            "with --recipe=plain"
        )
    if any(layer.bidirectional for layer in lstms):
        raise BadInput(
            "early exit: the model reads backwards, too, so it needs a text's end before it can answer; expected one "
            "trained without --bidirectional"
        )
