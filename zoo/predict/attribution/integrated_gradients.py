"""Which tokens speak for a prediction: integrated gradients (Sundararajan, Taly and Yan, 2017).

The attribution of a token is its vector times the mean gradient of the predicted class's logit on the straight path
from a baseline to the text. Their sum is what the logit changes by on that path (their axiom of completeness); it is
computed, not believed: the path is cut finer, wherever it bends most, until it holds. For an encoder that is mostly
near the baseline, where layer normalisation makes much of little.

The baseline has as many tokens, and vectors of zeros in their place. That is what dropout shows a network in the place
of a word that it must do without; the vector of the padding token would be chance, as training never reads it. Of an
encoder the vectors are those that its first block reads, with position and segment; [CLS] and [SEP] have shares, too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.data.text import encoding as arrays
from zoo.data.text.tokenizer import Encoded, Piece
from zoo.errors import BadInput
from zoo.metrics.logits import class_probabilities
from zoo.models.lstm_layers import TokenEmbedding
from zoo.predict.predictors import text_preprocessing
from zoo.predict.predictors.compiled_programs import CompiledPrograms
from zoo.predict.predictors.text_classifier import TextClassifier

# Of the difference between the two logits; the floor is what sums of float32 may leave of a small one.
TOLERANCE, _FLOOR = 0.01, 1e-3
# Gradients per part of the path, at the nodes of Gauss and Legendre, in one batch; and most of them on a whole path.
_NODES, _MOST = 16, 1024


class Token(NamedTuple):
    """A token and the characters that it stands for, `text[start:end]`.

    Attributes:
        token: as the tokenizer has it.
        start: its first character.
        end: after its last character.
        attribution: its share of the logit's change; None where `max_length` has cut it off, so that nobody read it.
        outside: whether it stands for no characters, but around the text: [CLS] and [SEP].
    """

    token: str
    start: int
    end: int
    attribution: float | None
    outside: bool = False


class Explanation(NamedTuple):
    """Why a text is taken for what it is.

    Attributes:
        text: as it was given.
        probabilities: float32 `[classes]`.
        classes: their names.
        tokens: in their order, also those that were cut off.
        logit: of the predicted class; of two classes with one logit, this one with the sign of the predicted class.
        baseline: the same of the baseline.
        steps: gradients on the path.
    """

    text: str
    probabilities: np.ndarray
    classes: tuple[str, ...]
    tokens: list[Token]
    logit: float
    baseline: float
    steps: int

    @property
    def predicted(self) -> str:
        """The class that is explained."""
        return self.classes[int(self.probabilities.argmax())]

    @property
    def read(self) -> list[Token]:
        """The tokens that the model has read."""
        return [token for token in self.tokens if token.attribution is not None]

    @property
    def sum(self) -> float:
        """Of all attributions."""
        return float(sum(token.attribution for token in self.read))

    @property
    def gap(self) -> float:
        """How far the sum is from the difference of the logits."""
        return abs(self.sum - (self.logit - self.baseline))

    @property
    def complete(self) -> bool:
        """Whether the gap is within 1 % of the difference; else the attributions are rough."""
        return self.gap <= _tolerated(self.logit - self.baseline)


class Explainer:
    """Explains the predictions of one classifier; what it compiles for a length it keeps.

    Raises:
        BadInput: the model does not look its tokens up in one layer.
    """

    def __init__(self, predictor: TextClassifier):
        found = text_preprocessing.embeddings(predictor.model)
        if len(found) != 1:
            raise BadInput(f"the model has {len(found)} TokenEmbedding layers; expected 1 to explain a prediction by")
        tokens, logits = predictor.model.inputs[0], predictor.model.outputs[0]
        self._predictor, self._embedding = predictor, found[0]
        # The lengths come from the tokens, whatever the vectors in their place.
        self._rest = keras.Model([tokens, found[0].output], logits)
        self._time_first = isinstance(found[0], TokenEmbedding)
        self._along = CompiledPrograms(self._gradients)
        nodes, weights = np.polynomial.legendre.leggauss(_NODES)
        self._nodes, self._weights = (nodes + 1) / 2, (weights / 2).astype(np.float32)

    def explain(self, texts: Sequence[str]) -> list[Explanation]:
        """Explains the most probable class of each text.

        Raises:
            BadInput: a text is not Unicode.
            NonFinite: the model's output is not finite.
        """
        logits = self._predictor.logits(texts)
        probabilities = class_probabilities(logits).astype(np.float32)
        return [self._one(text, *rows) for text, *rows in zip(texts, logits, probabilities)]

    def _one(self, text: str, logits: np.ndarray, probabilities: np.ndarray) -> Explanation:
        pieces, frame = self._predictor.tokenizer.pieces(text), self._predictor.frame
        room = self._predictor.max_length - (0 if frame is None else len(frame))
        places = _places(len(pieces), room, self._predictor.cut)
        if frame is None and not pieces:
            # What the model reads of an empty text is one token of padding.
            pieces, places = [Piece(0, "[PAD]", 0, 0)], np.zeros(1, int)
        row = [pieces[place].id for place in places]
        row = row if frame is None else [frame.first, *row, frame.last]
        ids = np.zeros((1, self._predictor.width(len(row))), np.int32)
        ids[0, : len(row)] = row
        shares, logit, baseline, steps = self._integrated(ids, _direction(logits))
        shares = shares[: len(row)].tolist()
        share_of = dict(zip(places.tolist(), shares if frame is None else shares[1:-1]))
        tokens = [Token(*piece[1:], share_of.get(place)) for place, piece in enumerate(pieces)]
        if frame is not None:
            end = len(text)
            tokens = [Token("[CLS]", 0, 0, shares[0], True), *tokens, Token("[SEP]", end, end, shares[-1], True)]
        return Explanation(text, probabilities, self._predictor.classes, tokens, logit, baseline, steps)

    def _integrated(self, ids: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, float, float, int]:
        """Attributions `[time]`, the logits at both ends, and how many gradients the sum has."""
        parts = [self._part(ids, direction, 0.0, 1.0)]
        _, baseline, logit, *_ = parts[0]
        while True:
            shares = np.sum([part.shares for part in parts], axis=0, dtype=np.float64)
            holds = abs(shares.sum() - (logit - baseline)) <= _tolerated(logit - baseline)
            if holds or len(parts) * _NODES >= _MOST:
                return shares, logit, baseline, len(parts) * _NODES
            worst = parts.pop(int(np.argmax([part.gap for part in parts])))
            middle = (worst.start + worst.stop) / 2
            parts += [self._part(ids, direction, *ends) for ends in ((worst.start, middle), (middle, worst.stop))]

    def _part(self, ids: np.ndarray, direction: np.ndarray, start: float, stop: float) -> "_Part":
        """The integral over a part of the path."""
        along = np.append(start + (stop - start) * self._nodes, [start, stop]).astype(np.float32)
        weights = np.append(self._weights * (stop - start), np.zeros(2)).astype(np.float32)
        shares, ends = self._along(*map(tf.constant, (ids, along, weights, direction)))
        return _Part(shares.numpy().astype(np.float64), *map(float, ends.numpy()), start, stop)

    def _gradients(self, ids, along, weights, direction):
        """Of one text `[1, time]` at places on its path `[points]`; the logits at the last two besides."""
        vectors = self._turned(tf.cast(self._embedding(ids), tf.float32))
        points = along[None, :, None] * vectors
        tokens = tf.repeat(ids, along.shape[0], axis=0)
        with tf.GradientTape() as tape:
            tape.watch(points)
            embedded = self._turned(tf.cast(points, self._embedding.compute_dtype))
            logits = tf.linalg.matvec(self._rest([tokens, embedded], training=False), direction)
        gradients = tape.gradient(logits, points)
        return tf.einsum("tpw,p,tw->t", gradients, weights, vectors[:, 0]), logits[-2:]

    def _turned(self, vectors: tf.Tensor) -> tf.Tensor:
        """Between the layer's own order of axes and `[time, batch, width]`."""
        return vectors if self._time_first else tf.transpose(vectors, [1, 0, 2])


class _Part(NamedTuple):
    """The attributions `[time]` on a part of the path, the logits at its ends, and these."""

    shares: np.ndarray
    before: float
    after: float
    start: float
    stop: float

    @property
    def gap(self) -> float:
        return abs(self.shares.sum() - (self.after - self.before))


def _places(count: int, max_length: int, cut: str) -> np.ndarray:
    """Which of so many tokens are read, found by cutting their numbers in the place of their ids."""
    if not count:
        return np.zeros(0, int)
    numbers = Encoded(np.arange(1, count + 1), np.array([0, count]))
    return arrays.padded(numbers, max_length, cut)["tokens"][0] - 1


def _direction(logits: np.ndarray) -> np.ndarray:
    """What the model's output is multiplied with to give the logit of the predicted class."""
    if len(logits) == 1:
        return np.where(logits > 0, 1, -1).astype(np.float32)
    return np.eye(len(logits), dtype=np.float32)[logits.argmax()]


def _tolerated(difference: float) -> float:
    return max(TOLERANCE * abs(difference), _FLOOR)
