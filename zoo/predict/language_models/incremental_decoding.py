"""Texts being read on by a language model, one token after the other, with a cache or without."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from zoo.errors import NonFinite
from zoo.models.kv_cache import LstmState, TransformerCache
from zoo.predict.predictors.compiled_programs import CompiledPrograms, doubled_size, zero_padded

# Tokens that are read at once where there are many: at the start, and when the window slides.
_CHUNK = 32
# So few are not worth a program of their own, which takes a second to compile.
_FEW = 8
_SMALLEST = 32


class DecodeState(NamedTuple):
    """Rows of tokens, and what comes after them.

    Attributes:
        ids: int32 `[rows, tokens]`, all of them.
        start: how many of the first the model does not see any more.
        size: tokens that its state has room for.
        state: of the model; None without a cache.
        logits: float32 `[rows, vocabulary]`, of the next token.
    """

    ids: np.ndarray
    start: int
    size: int
    state: Any
    logits: np.ndarray


class IncrementalDecoder:
    """Reads on: what `follow` gives is what `begin` would give on all of the tokens, until the context is full.

    Then it slides: the last half of the context is read again, as if it were the beginning. An LSTM's never is full.

    Args:
        network: of the model.
        cache: whether to keep what was computed of the tokens before; if not, they all are read again for each token.
    """

    def __init__(self, network: TransformerCache | LstmState, cache: bool = True):
        self._network, self._cache = network, cache
        self._step = CompiledPrograms(self._cached_logits, jit_compile=True)
        self._forward = CompiledPrograms(lambda tokens, length: network.forward(tokens)[:, length - 1])

    def begin(self, ids: np.ndarray, more: int) -> DecodeState:
        """Reads rows `[rows, tokens]` of one token or more, which as many as `more` will follow."""
        return self._afresh(ids.astype(np.int32), self._size(ids.shape[1] + more))

    def follow(self, reading: DecodeState, parents: np.ndarray, chosen: np.ndarray) -> DecodeState:
        """Goes on with one token more in each row.

        Args:
            reading: so far.
            parents: int `[rows]`, which row each of the new ones continues.
            chosen: int32 `[rows]`, their new tokens.
        """
        ids = np.concatenate([reading.ids[parents], chosen[:, None].astype(np.int32)], axis=1)
        seen = ids.shape[1] - reading.start
        if self._network.context and seen > self._network.context:
            return self._afresh(ids, reading.size)
        if not self._cache:
            return self._whole(ids, reading.start, reading.size)
        state = reading.state
        if not np.array_equal(parents, np.arange(len(reading.ids))):
            state = tf.nest.map_structure(lambda rows: tf.gather(rows, parents), state)
        logits, state = self._read(ids[:, -1:], state, seen - 1, reading.size)
        return DecodeState(ids, reading.start, reading.size, state, _checked(logits))

    def _size(self, tokens: int) -> int:
        """Sizes double: each is compiled once, and a short text need not pay for a long one's cache."""
        return doubled_size(tokens, _SMALLEST, self._network.context)

    def _afresh(self, ids: np.ndarray, size: int) -> DecodeState:
        total, context = ids.shape[1], self._network.context
        start = total - max(context // 2, 1) if context and total > context else 0
        if not self._cache:
            return self._whole(ids, start, size)
        state, place = self._network.empty(len(ids), size), start
        while place < total:
            new = min(_CHUNK, size, total - place) if total - place >= _FEW else 1
            logits, state = self._read(ids[:, place : place + new], state, place - start, size)
            place += new
        return DecodeState(ids, start, size, state, _checked(logits))

    def _read(self, tokens: np.ndarray, state: Any, start: int, size: int) -> tuple[tf.Tensor, Any]:
        rows, length = tokens.shape
        new = 1 if length == 1 else min(_CHUNK, size)
        padded = tf.constant(zero_padded(tokens, (rows, new)))
        return self._step(padded, state, tf.constant(start), tf.constant(length))

    def _cached_logits(self, tokens: tf.Tensor, state: Any, start: tf.Tensor, length: tf.Tensor):
        """Logits after the last of `length` tokens, `[rows, vocabulary]`, and the next state."""
        outputs, state = self._network.read(tokens, state, start, length)
        last = tf.gather(outputs, [length - 1], axis=1)  # [rows, 1, width]
        return self._network.logits(last)[:, 0], state

    def _whole(self, ids: np.ndarray, start: int, size: int) -> DecodeState:
        """Without a cache: the plain model on all that it sees, padded at the end."""
        seen = ids[:, start:]
        padded = zero_padded(seen, (len(ids), self._size(seen.shape[1])))
        logits = self._forward(tf.constant(padded), tf.constant(seen.shape[1]))
        return DecodeState(ids, start, size, None, _checked(logits))


def _checked(logits: tf.Tensor) -> np.ndarray:
    found = logits.numpy()
    if not np.isfinite(found).all():
        raise NonFinite("the model's output is not finite; expected a trained model")
    return found
