"""Integrated gradients: attribution of a prediction to tokens (Sundararajan, Taly and Yan, 2017).

The attribution of a token is its vector times the mean gradient of the predicted class's logit on the straight path
from a baseline to the text. By the axiom of completeness attributions sum to the change of the logit on that path. This
is checked: the path is divided further, where it bends most, until completeness holds. For an encoder that is mostly
near the baseline, where layer normalisation amplifies small vectors.

The baseline is the same number of zero vectors, which a network has seen in training where dropout hides a word; the
padding token's vector would be arbitrary, as it is never trained. For an encoder the vectors are the inputs of its
first block, with position and segment; [CLS] and [SEP] have attributions, too.
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
from zoo.models import logits_mixture, ngram_logits
from zoo.models.lstm_layers import TokenEmbedding
from zoo.predict.predictors import text_preprocessing
from zoo.predict.predictors.compiled_programs import CompiledPrograms
from zoo.predict.predictors.text_classifier import TextClassifier

# Largest gap to completeness, as a share of the logits' difference; and an absolute floor, for float32 rounding.
TOLERANCE, _FLOOR = 0.01, 1e-3
# Gradients per part of the path, at Gauss-Legendre nodes, in one batch; and most gradients on a whole path.
_NODES, _MOST = 16, 1024


class Token(NamedTuple):
    """A token and its characters `text[start:end]`.

    Attributes:
        token: the tokenizer's name of the token.
        start: index of its first character.
        end: index after its last character.
        attribution: its share of the logit's change; None for tokens beyond `max_length`, which the model did not read.
        outside: whether it is a special token around the text, [CLS] or [SEP].
    """

    token: str
    start: int
    end: int
    attribution: float | None
    outside: bool = False


class Explanation(NamedTuple):
    """Attributions of one text's prediction.

    Attributes:
        text: the text.
        probabilities: float32 `[classes]`.
        classes: names of the classes.
        tokens: all tokens in order, including those that were cut off.
        logit: the predicted class's logit; with one logit for two classes, this one with the predicted class's sign.
        baseline: the same logit at the baseline.
        steps: number of gradients on the path.
        label: the predicted class.
    """

    text: str
    probabilities: np.ndarray
    classes: tuple[str, ...]
    tokens: list[Token]
    logit: float
    baseline: float
    steps: int
    label: int

    @property
    def predicted(self) -> str:
        """Name of the predicted class."""
        return self.classes[self.label]

    @property
    def read(self) -> list[Token]:
        """Tokens that the model has read."""
        return [token for token in self.tokens if token.attribution is not None]

    @property
    def sum(self) -> float:
        """Sum of all attributions."""
        return float(sum(token.attribution for token in self.read))

    @property
    def gap(self) -> float:
        """Distance of the sum from the difference of the logits."""
        return abs(self.sum - (self.logit - self.baseline))

    @property
    def complete(self) -> bool:
        """Whether completeness holds within 1 % of the difference; else the attributions are rough."""
        return self.gap <= _tolerated(self.logit - self.baseline)


class Explainer:
    """Explains the predictions of one classifier; keeps its compiled programs.

    Raises:
        BadInput: the model does not have exactly one embedding layer.
    """

    def __init__(self, predictor: TextClassifier):
        layers = text_preprocessing.embeddings(predictor.model)
        if len(layers) != 1:
            raise BadInput(f"the model has {len(layers)} TokenEmbedding layers; expected 1 to explain a prediction by")
        tokens, logits = predictor.model.inputs[0], predictor.model.outputs[0]
        self._predictor, self._embedding = predictor, layers[0]
        # The model after its embedding. It takes tokens, too, as lengths and masks come from these.
        self._rest = keras.Model([tokens, layers[0].output], logits)
        self._time_first = isinstance(layers[0], TokenEmbedding)
        self._ngrams = [layer for layer in predictor.model.layers if isinstance(layer, ngram_logits.NgramLogits)]
        self._ngram_share = logits_mixture.shares(predictor.model).linear
        self._along = CompiledPrograms(self._gradients)
        nodes, weights = np.polynomial.legendre.leggauss(_NODES)
        self._nodes, self._weights = (nodes + 1) / 2, (weights / 2).astype(np.float32)

    def explain(self, texts: Sequence[str]) -> list[Explanation]:
        """Explains the predicted class of each text.

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
        read = _read(len(pieces), room, self._predictor.cut)
        if frame is None and not pieces:
            # An empty text is read as one token of padding.
            pieces, read = [Piece(0, "[PAD]", 0, 0)], np.zeros(1, int)
        row = [pieces[index].id for index in read]
        row = row if frame is None else [frame.first, *row, frame.last]
        ids = np.zeros((1, self._predictor.width(len(row))), np.int32)
        ids[0, : len(row)] = row
        [label] = self._predictor.decide(probabilities[None]).tolist()
        direction = _direction(len(logits), label)
        shares, logit, baseline, steps = self._integrated(ids, direction)
        # An encoder with n-grams beside it reads the first tokens alone.
        shares = np.pad(shares, (0, ids.shape[1] - len(shares)))
        for layer in self._ngrams:
            # Linear in the tokens, and constant along the path of their vectors: what each token adds is exact.
            added = self._ngram_share * ngram_logits.contributions(layer, ids[0]) @ direction
            shares, baseline = shares + added, baseline - float(added.sum())
        shares = shares[: len(row)].tolist()
        share_of = dict(zip(read.tolist(), shares if frame is None else shares[1:-1]))
        tokens = [Token(*piece[1:], share_of.get(index)) for index, piece in enumerate(pieces)]
        if frame is not None:
            end = len(text)
            tokens = [Token("[CLS]", 0, 0, shares[0], True), *tokens, Token("[SEP]", end, end, shares[-1], True)]
        return Explanation(text, probabilities, self._predictor.classes, tokens, logit, baseline, steps, label)

    def _integrated(self, ids: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, float, float, int]:
        """Attributions `[time]`, the logits at the text and at the baseline, and the number of gradients."""
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
        """Attributions `[time]` of one text `[1, time]` from points on its path `[points]`; logits at the last two."""
        vectors = self._transposed(tf.cast(self._embedding(ids), tf.float32))  # [time, 1, width]
        points = along[None, :, None] * vectors  # [time, points, width]
        tokens = tf.repeat(ids, along.shape[0], axis=0)  # [points, time]
        with tf.GradientTape() as tape:
            tape.watch(points)
            embedded = self._transposed(tf.cast(points, self._embedding.compute_dtype))
            logits = tf.linalg.matvec(self._rest([tokens, embedded], training=False), direction)  # [points]
        gradients = tape.gradient(logits, points)  # [time, points, width]
        return tf.einsum("tpw,p,tw->t", gradients, weights, vectors[:, 0]), logits[-2:]  # [time], [2]

    def _transposed(self, vectors: tf.Tensor) -> tf.Tensor:
        """From the layer's order of axes to `[time, batch, width]`, and back."""
        return vectors if self._time_first else tf.transpose(vectors, [1, 0, 2])


class _Part(NamedTuple):
    """A part of the path: its attributions `[time]`, the logits at both ends, and the ends' positions in [0, 1]."""

    shares: np.ndarray
    before: float
    after: float
    start: float
    stop: float

    @property
    def gap(self) -> float:
        return abs(self.shares.sum() - (self.after - self.before))


def _read(count: int, max_length: int, cut: str) -> np.ndarray:
    """Indices of the tokens that are read, by cutting a sequence of numbers instead of ids."""
    if not count:
        return np.zeros(0, int)
    numbers = Encoded(np.arange(1, count + 1), np.array([0, count]))
    return arrays.padded(numbers, max_length, cut)["tokens"][0] - 1


def _direction(outputs: int, label: int) -> np.ndarray:
    """Vector whose product with the model's output is a class's logit."""
    if outputs == 1:
        return np.array([1 if label else -1], np.float32)
    return np.eye(outputs, dtype=np.float32)[label]


def _tolerated(difference: float) -> float:
    return max(TOLERANCE * abs(difference), _FLOOR)
