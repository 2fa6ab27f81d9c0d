"""Which tokens speak for a prediction: integrated gradients (Sundararajan, Taly and Yan, 2017).

The attribution of a token is its vector times the mean gradient of the predicted class's logit on the straight path
from a baseline to the text. Their sum is what the logit changes by on that path (their axiom of completeness); it is
computed, not believed: the path is cut finer until it holds.

The baseline has as many tokens, and vectors of zeros in their place. That is what dropout shows a network in the place
of a word that it must do without; the vector of the padding token would be chance, as training never reads it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.data import text as arrays
from zoo.data.tokenizer import Encoded, Piece
from zoo.errors import BadInput
from zoo.predict import texts as classifiers
from zoo.predict.texts import TextPredictor
from zoo.report import judge

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
    """

    token: str
    start: int
    end: int
    attribution: float | None


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
        BadInput: the model does not look its tokens up in one `TokenEmbedding`.
    """

    def __init__(self, predictor: TextPredictor):
        found = classifiers.embeddings(predictor.model)
        if len(found) != 1:
            raise BadInput(f"the model has {len(found)} TokenEmbedding layers; expected 1 to explain a prediction by")
        tokens, logits = predictor.model.inputs[0], predictor.model.outputs[0]
        self._predictor, self._embedding = predictor, found[0]
        # The lengths come from the tokens, whatever the vectors in their place.
        self._rest = keras.Model([tokens, found[0].output], logits)
        self._along = tf.function(self._gradients, autograph=False)
        nodes, weights = np.polynomial.legendre.leggauss(_NODES)
        self._nodes, self._weights = (nodes + 1) / 2, (weights / 2).astype(np.float32)

    def explain(self, texts: Sequence[str]) -> list[Explanation]:
        """Explains the most probable class of each text.

        Raises:
            BadInput: a text is not Unicode.
            NonFinite: the model's output is not finite.
        """
        logits = self._predictor.logits(texts)
        probabilities = judge.probabilities(logits).astype(np.float32)
        return [self._one(text, *rows) for text, *rows in zip(texts, logits, probabilities)]

    def _one(self, text: str, logits: np.ndarray, probabilities: np.ndarray) -> Explanation:
        pieces = self._predictor.tokenizer.pieces(text)
        places = _places(len(pieces), self._predictor.max_length, self._predictor.cut)
        # What the model reads of an empty text is one token of padding.
        pieces, places = (pieces, places) if pieces else ([Piece(0, "[PAD]", 0, 0)], np.zeros(1, int))
        ids = np.zeros((1, self._predictor.width(len(places))), np.int32)
        ids[0, : len(places)] = [pieces[place].id for place in places]
        shares, logit, baseline, steps = self._integrated(ids, _direction(logits))
        share_of = dict(zip(places.tolist(), shares[: len(places)].tolist()))
        tokens = [Token(*piece[1:], share_of.get(place)) for place, piece in enumerate(pieces)]
        return Explanation(text, probabilities, self._predictor.classes, tokens, logit, baseline, steps)

    def _integrated(self, ids: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, float, float, int]:
        """Attributions `[time]`, the logits at both ends, and how many gradients it took."""
        parts = 1
        while True:
            found = [self._part(ids, direction, part, parts) for part in range(parts)]
            shares = np.mean([shares for shares, _ in found], axis=0, dtype=np.float64)
            baseline, logit = (float(value) for value in found[0][1])
            holds = abs(shares.sum() - (logit - baseline)) <= _tolerated(logit - baseline)
            if holds or parts * _NODES >= _MOST:
                return shares, logit, baseline, parts * _NODES
            parts *= 2

    def _part(self, ids: np.ndarray, direction: np.ndarray, part: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
        """The integral over one of equal parts of the path, and the logits at the ends of the whole path."""
        along = np.append((self._nodes + part) / parts, [0.0, 1.0]).astype(np.float32)
        weights = np.append(self._weights, np.zeros(2, np.float32))
        shape = tf.TensorSpec(ids.shape, tf.int32)
        rest = [tf.TensorSpec(values.shape, tf.float32) for values in (along, weights, direction)]
        program = self._along.get_concrete_function(shape, *rest)
        shares, ends = program(*map(tf.constant, (ids, along, weights, direction)))
        return shares.numpy(), ends.numpy()

    def _gradients(self, ids, along, weights, direction):
        """Of one text `[1, time]` at places on its path `[points]`, whose last two are its ends."""
        vectors = tf.cast(self._embedding(ids), tf.float32)
        points = along[None, :, None] * vectors
        tokens = tf.repeat(ids, along.shape[0], axis=0)
        with tf.GradientTape() as tape:
            tape.watch(points)
            embedded = tf.cast(points, self._embedding.compute_dtype)
            logits = tf.linalg.matvec(self._rest([tokens, embedded], training=False), direction)
        gradients = tape.gradient(logits, points)
        return tf.einsum("tpw,p,tw->t", gradients, weights, vectors[:, 0]), logits[-2:]


def _places(count: int, max_length: int, cut: str) -> np.ndarray:
    """Which of so many tokens are read, found by cutting their numbers in the place of their ids."""
    numbers = Encoded(np.arange(1, count + 1), np.array([0, count]))
    return arrays.padded(numbers, max_length, cut)["tokens"][0] - 1


def _direction(logits: np.ndarray) -> np.ndarray:
    """What the model's output is multiplied with to give the logit of the predicted class."""
    if len(logits) == 1:
        return np.where(logits > 0, 1, -1).astype(np.float32)
    return np.eye(len(logits), dtype=np.float32)[logits.argmax()]


def _tolerated(difference: float) -> float:
    return max(TOLERANCE * abs(difference), _FLOOR)
