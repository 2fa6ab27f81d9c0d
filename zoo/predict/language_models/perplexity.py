"""How probable a language model finds texts: each token given those before it, and by the chain rule the whole."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from zoo.errors import NonFinite
from zoo.models.kv_cache import LstmState, TransformerCache
from zoo.predict.predictors.compiled_programs import CompiledPrograms, doubled_size, next_size, zero_padded

# Tokens of one batch: enough for all cores, few enough that their logits fit in memory.
_BATCH = 2048
_FEW = 8
_NARROWEST = 32
# Tokens that an LSTM reads at once; shorter texts are padded to the shorter one.
_CHUNKS = (32, 256)


class TextScore(NamedTuple):
    """How probable a text is.

    Attributes:
        tokens: the text of each token; the first is given, not predicted, as the models have no token for a beginning.
        log_probabilities: float64 `[tokens - 1]`, of each token but the first given those before it, in nats.
        bytes: of the predicted tokens; None if the tokenizer changes texts, so that nobody can tell.
        unknown: tokens of which the model knows only that it does not know them.
    """

    tokens: tuple[str, ...]
    log_probabilities: np.ndarray
    bytes: int | None
    unknown: int

    @property
    def log_probability(self) -> float:
        """The sum by the chain rule: log P of all tokens given the first, in nats."""
        return math.fsum(self.log_probabilities)

    @property
    def perplexity(self) -> float:
        """The exponential of the mean negative log-probability per predicted token."""
        return perplexity([self])

    @property
    def bits_per_byte(self) -> float | None:
        """What a code by this model takes for each byte of the predicted tokens; None where `bytes` is."""
        return bits_per_byte([self])


def perplexity(scores: Sequence[TextScore]) -> float:
    """Of all texts together, every predicted token with the same weight."""
    predicted = sum(len(one.log_probabilities) for one in scores)
    return math.exp(min(-math.fsum(one.log_probability for one in scores) / predicted, 700.0))


def bits_per_byte(scores: Sequence[TextScore]) -> float | None:
    """Of all texts together, or None where a text's bytes are not known."""
    if any(one.bytes is None for one in scores):
        return None
    return -math.fsum(one.log_probability for one in scores) / math.log(2.0) / sum(one.bytes for one in scores)


class Window(NamedTuple):
    """A run of a text that a model reads at once: it reads `begin` to `end - 1` and predicts `begin + 1` to `end`.

    Attributes:
        begin: the first token read.
        first: the first token whose prediction counts; those before it were predicted by the window before.
        end: the last token predicted.
    """

    begin: int
    first: int
    end: int


def windows(tokens: int, context: int, stride: int) -> list[Window]:
    """Windows in which each token but the first of a text is predicted once.

    Each begins `stride` tokens after the one before, so a token has at least `context - stride` others before it, or
    all there are. A stride of 1 gives each the whole context; one of `context` is what runs in training are cut by.
    """
    found = [Window(0, 1, min(context, tokens - 1))]
    while found[-1].end < tokens - 1:
        begin = found[-1].begin + stride
        found.append(Window(begin, found[-1].end + 1, min(begin + context, tokens - 1)))
    return found


class Scorer:
    """Log-probabilities by compiled programs, one for each of a few shapes.

    Args:
        network: of the model.
    """

    def __init__(self, network: TransformerCache | LstmState):
        self._network = network
        self._forward = CompiledPrograms(lambda tokens: of_tokens(network.forward(tokens[:, :-1]), tokens[:, 1:]))
        self._read = CompiledPrograms(self._chunk, jit_compile=True)

    def log_probabilities(self, texts: Sequence[np.ndarray], stride: int) -> list[np.ndarray]:
        """Of each token but the first, in nats.

        Args:
            texts: ids int32 `[tokens]` each, two or more of them.
            stride: of the windows of a text longer than the context; an LSTM reads any text whole.

        Returns:
            float64 `[tokens - 1]` of each text.

        Raises:
            NonFinite: the model's output is.
        """
        found = [np.zeros(len(ids) - 1) for ids in texts]
        if self._network.context is None:
            for ids, values in zip(texts, found):
                self._whole(ids, values)
        else:
            self._by_windows(texts, stride, found)
        for number, values in enumerate(found):
            if not np.isfinite(values).all():
                raise NonFinite(f"the model's output for text {number} is not finite; expected a trained model")
        return found

    def _by_windows(self, texts: Sequence[np.ndarray], stride: int, found: list[np.ndarray]) -> None:
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
            values = self._forward(tf.constant(tokens)).numpy()
            for row, (number, window) in zip(values, batch):
                counted = slice(window.first - window.begin - 1, window.end - window.begin)
                found[number][window.first - 1 : window.end] = row[counted]

    def _whole(self, ids: np.ndarray, values: np.ndarray) -> None:
        """A text chunk by chunk, with the state carried on."""
        state, chunk = self._network.empty(1, 0), _CHUNKS[len(ids) > _CHUNKS[0]]
        for first in range(0, len(values), chunk):
            length = min(chunk, len(values) - first)
            tokens = tf.constant(zero_padded(ids[None, first : first + length + 1], (1, chunk + 1)))
            row, state = self._read(tokens, state, tf.constant(length))
            values[first : first + length] = row[0, :length]

    def _chunk(self, tokens: tf.Tensor, state: Any, length: tf.Tensor) -> tuple[tf.Tensor, Any]:
        outputs, state = self._network.read(tokens[:, :-1], state, tf.constant(0), length)
        return of_tokens(self._network.logits(outputs), tokens[:, 1:]), state


def of_tokens(logits: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Log P of tokens `[rows, time]` by logits `[rows, time, vocabulary]`, in nats."""
    return -tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, logits)
