"""Incremental decoding: a language model reads one token after another, with a KV cache or without."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from zoo.errors import NonFinite
from zoo.models.kv_cache import LstmState, TransformerCache
from zoo.predict.predictors.compiled_programs import CompiledPrograms, doubled_size, zero_padded

# Tokens per call while there are many: in the prefill, and when the window slides.
_CHUNK = 32
# Fewer tokens are read one by one: another program would take a second to compile.
_FEW = 8
# Smallest cache, in tokens.
_SMALLEST = 32


class DecodeState(NamedTuple):
    """Rows of tokens, the model's state after them, and logits of the next token.

    Attributes:
        ids: int32 `[rows, tokens]`, all tokens so far.
        start: number of first tokens that have slid out of the context.
        size: number of tokens that the KV cache has room for.
        state: the model's state (a KV cache, or an LSTM's state); None without a cache.
        logits: float32 `[rows, vocabulary]`, logits of the next token.
    """

    ids: np.ndarray
    start: int
    size: int
    state: Any
    logits: np.ndarray


class IncrementalDecoder:
    """Decodes token by token: `step` gives what `prefill` would give on all tokens, until the context is full.

    Then the window slides: the last half of the context is read again, as if the text began there. An LSTM's context is
    never full.

    Args:
        network: the model's `kv_cache.network`.
        cache: whether to keep the state of earlier tokens; without it all of them are read again for each token.
    """

    def __init__(self, network: TransformerCache | LstmState, cache: bool = True):
        self._network, self._cache = network, cache
        self._cached = CompiledPrograms(self._cached_logits, jit_compile=True)
        self._uncached = CompiledPrograms(lambda tokens, length: network.forward(tokens)[:, length - 1])

    def prefill(self, ids: np.ndarray, more: int) -> DecodeState:
        """Reads prompts `[rows, tokens]` of one token or more, with room for `more` tokens after them."""
        return self._read_window(ids.astype(np.int32), self._size(ids.shape[1] + more))

    def step(self, before: DecodeState, parents: np.ndarray, chosen: np.ndarray) -> DecodeState:
        """Reads one more token in each row.

        Args:
            before: the state so far.
            parents: int `[rows]`, which old row each new row continues.
            chosen: int32 `[rows]`, the new tokens.
        """
        ids = np.concatenate([before.ids[parents], chosen[:, None].astype(np.int32)], axis=1)  # [rows, tokens + 1]
        visible = ids.shape[1] - before.start
        if self._network.context and visible > self._network.context:
            return self._read_window(ids, before.size)
        if not self._cache:
            return self._read_uncached(ids, before.start, before.size)
        state = before.state
        if not np.array_equal(parents, np.arange(len(before.ids))):
            state = tf.nest.map_structure(lambda rows: tf.gather(rows, parents), state)
        logits, state = self._read(ids[:, -1:], state, visible - 1, before.size)
        return DecodeState(ids, before.start, before.size, state, _checked(logits))

    def _size(self, tokens: int) -> int:
        """Cache sizes double: each is compiled once, and a short text does not pay for a long text's cache."""
        return doubled_size(tokens, _SMALLEST, self._network.context)

    def _read_window(self, ids: np.ndarray, size: int) -> DecodeState:
        """Reads the tokens from the start of the window, chunk by chunk."""
        total, context = ids.shape[1], self._network.context
        start = total - max(context // 2, 1) if context and total > context else 0
        if not self._cache:
            return self._read_uncached(ids, start, size)
        state, position = self._network.empty(len(ids), size), start
        while position < total:
            new = min(_CHUNK, size, total - position) if total - position >= _FEW else 1
            logits, state = self._read(ids[:, position : position + new], state, position - start, size)
            position += new
        return DecodeState(ids, start, size, state, _checked(logits))

    def _read(self, tokens: np.ndarray, state: Any, start: int, size: int) -> tuple[tf.Tensor, Any]:
        rows, length = tokens.shape
        new = 1 if length == 1 else min(_CHUNK, size)
        padded = tf.constant(zero_padded(tokens, (rows, new)))
        return self._cached(padded, state, tf.constant(start), tf.constant(length))

    def _cached_logits(self, tokens: tf.Tensor, state: Any, start: tf.Tensor, length: tf.Tensor):
        """Logits after the last of `length` tokens, `[rows, vocabulary]`, and the next state."""
        outputs, state = self._network.read(tokens, state, start, length)
        last = tf.nest.map_structure(lambda each: tf.gather(each, [length - 1], axis=1), outputs)  # [rows, 1, width]
        return self._network.logits(last)[:, 0], state  # [rows, vocabulary]

    def _read_uncached(self, ids: np.ndarray, start: int, size: int) -> DecodeState:
        """Runs the plain model on the whole window, padded at the end."""
        window = ids[:, start:]
        padded = zero_padded(window, (len(ids), self._size(window.shape[1])))
        logits = self._uncached(tf.constant(padded), tf.constant(window.shape[1]))
        return DecodeState(ids, start, size, None, _checked(logits))


def _checked(logits: tf.Tensor) -> np.ndarray:
    values = logits.numpy()
    if not np.isfinite(values).all():
        raise NonFinite("the model's output is not finite; expected a trained model")
    return values
