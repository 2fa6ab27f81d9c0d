"""Perplexity, bits per byte and log-probabilities of texts by a language model."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from zoo.errors import NonFinite
from zoo.models.kv_cache import LstmState, TransformerCache
from zoo.predict.predictors.compiled_programs import CompiledPrograms, doubled_size, next_size, zero_padded

# Tokens per batch: enough for all cores, few enough that their logits fit in memory.
_BATCH = 2048
# Rows of a smaller batch, for the rest.
_FEW = 8
_NARROWEST = 32
# Tokens per chunk of an LSTM: 32 for texts of up to 32 tokens, else 256.
_CHUNKS = (32, 256)


class TextScore(NamedTuple):
    """Log-probabilities of one text.

    Attributes:
        tokens: the text of each token; the first one is not predicted, as the models have no start token.
        log_probabilities: float64 `[tokens - 1]`, log P in nats of each token but the first, after those before it; of
            an unknown character that of its bytes, see `LanguageModel.score`.
        bytes: number of bytes of the predicted tokens; None if the tokenizer changes texts, so that it is uncertain.
        unknown: number of tokens that are not in the vocabulary.
    """

    tokens: tuple[str, ...]
    log_probabilities: np.ndarray
    bytes: int | None
    unknown: int

    @property
    def log_probability(self) -> float:
        """Log P of all tokens after the first, in nats: the sum, by the chain rule."""
        return math.fsum(self.log_probabilities)

    @property
    def perplexity(self) -> float:
        """Exponential of the mean negative log-probability per predicted token."""
        return perplexity([self])

    @property
    def bits_per_byte(self) -> float | None:
        """Code length per byte of the predicted tokens, in bits; None where `bytes` is None."""
        return bits_per_byte([self])


def perplexity(scores: Sequence[TextScore]) -> float:
    """Perplexity of all texts together, with equal weight for every predicted token."""
    predicted = sum(len(one.log_probabilities) for one in scores)
    return math.exp(min(-math.fsum(one.log_probability for one in scores) / predicted, 700.0))


def bits_per_byte(scores: Sequence[TextScore]) -> float | None:
    """Bits per byte of all texts together; None if a text's number of bytes is None."""
    if any(one.bytes is None for one in scores):
        return None
    return -math.fsum(one.log_probability for one in scores) / math.log(2.0) / sum(one.bytes for one in scores)


class Window(NamedTuple):
    """Tokens of a text that a model reads at once: it reads `begin` to `end - 1` and predicts `begin + 1` to `end`.

    Attributes:
        begin: the first token that is read.
        first: the first token whose prediction counts; the window before predicted those before it.
        end: the last token that is predicted.
    """

    begin: int
    first: int
    end: int


def windows(tokens: int, context: int, stride: int) -> list[Window]:
    """Sliding windows that together predict each token of a text but the first once.

    Each window begins `stride` tokens after the one before, so a token is predicted from at least `context - stride`
    tokens, or from all before it. A stride of 1 gives each token the whole context; training's is the whole context.
    """
    cut = [Window(0, 1, min(context, tokens - 1))]
    while cut[-1].end < tokens - 1:
        begin = cut[-1].begin + stride
        cut.append(Window(begin, cut[-1].end + 1, min(begin + context, tokens - 1)))
    return cut


class Scorer:
    """Log-probabilities of texts, by compiled programs for a few shapes.

    Args:
        network: the model's `kv_cache.network`.
    """

    def __init__(self, network: TransformerCache | LstmState):
        self._network = network
        self._forward = CompiledPrograms(
            lambda tokens: token_log_probabilities(network.forward(tokens[:, :-1]), tokens[:, 1:])
        )
        self._read = CompiledPrograms(self._chunk, jit_compile=True)

    def log_probabilities(self, texts: Sequence[np.ndarray], stride: int) -> list[np.ndarray]:
        """Log P of each token but the first, in nats.

        Args:
            texts: int32 `[tokens]` for each text, two tokens or more.
            stride: stride of the windows where a text is longer than the context; an LSTM needs no windows.

        Returns:
            Float64 `[tokens - 1]` for each text.

        Raises:
            NonFinite: the model's output is not finite.
        """
        scores = [np.zeros(len(ids) - 1) for ids in texts]
        if self._network.context is None:
            for ids, values in zip(texts, scores):
                self._by_chunks(ids, values)
        else:
            self._by_windows(texts, stride, scores)
        for number, values in enumerate(scores):
            if not np.isfinite(values).all():
                raise NonFinite(f"the model's output for text {number} is not finite; expected a trained model")
        return scores

    def _by_windows(self, texts: Sequence[np.ndarray], stride: int, scores: list[np.ndarray]) -> None:
        """Fills the scores of texts, with windows in batches."""
        cut = [
            (number, window)
            for number, ids in enumerate(texts)
            for window in windows(len(ids), self._network.context, stride)
        ]
        # Windows of similar length share a batch.
        cut.sort(key=lambda one: one[1].end - one[1].begin)
        while cut:
            width = doubled_size(cut[-1][1].end - cut[-1][1].begin, _NARROWEST, self._network.context)
            most = max(_BATCH // width, 1)
            rows = next_size(min(len(cut), most), sorted((1, _FEW, most)))
            batch, cut = cut[-rows:], cut[:-rows]
            tokens = np.zeros((rows, width + 1), np.int32)
            for row, (number, window) in zip(tokens, batch):
                row[: window.end - window.begin + 1] = texts[number][window.begin : window.end + 1]
            values = self._forward(tf.constant(tokens)).numpy()  # [rows, width]
            for row, (number, window) in zip(values, batch):
                counted = slice(window.first - window.begin - 1, window.end - window.begin)
                scores[number][window.first - 1 : window.end] = row[counted]

    def _by_chunks(self, ids: np.ndarray, values: np.ndarray) -> None:
        """Fills the scores of one text, chunk by chunk, with an LSTM's state carried on."""
        state, chunk = self._network.empty(1, 0), _CHUNKS[len(ids) > _CHUNKS[0]]
        for first in range(0, len(values), chunk):
            length = min(chunk, len(values) - first)
            tokens = tf.constant(zero_padded(ids[None, first : first + length + 1], (1, chunk + 1)))
            row, state = self._read(tokens, state, tf.constant(length))
            values[first : first + length] = row[0, :length]

    def _chunk(self, tokens: tf.Tensor, state: Any, length: tf.Tensor) -> tuple[tf.Tensor, Any]:
        outputs, state = self._network.read(tokens[:, :-1], state, tf.constant(0), length)  # [1, chunk, width]
        return token_log_probabilities(self._network.logits(outputs), tokens[:, 1:]), state  # [1, chunk]


def token_log_probabilities(logits: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
    """Log P in nats of tokens `[rows, time]`, by logits `[rows, time, vocabulary]`."""
    return -tf.nn.sparse_softmax_cross_entropy_with_logits(tokens, logits)
