"""Early exit for Transformer encoders: the later layers are skipped once a prediction is confident.

    predictor = zoo.load(workdir)
    exits = exit_heads.load_or_fit(workdir, predictor)
    early = TransformerExit(predictor, held_out.load(workdir, predictor), exits, risk=0.01)
    logits = early.logits(texts)
    early.saved

After each layer the texts whose prediction is accepted leave the batch, by one of two rules (DeeBERT: Xin et al., 2020;
PABEE: Zhou et al., 2020; see `stopping_rule`), and the others are compacted to the few batch sizes that programs are
compiled for. The model does not change. Where nothing may exit early, the plain forward pass answers. Texts that go
through all layers one by one get the same logits in float32; in bfloat16 a MiniLM's differ by 0.002.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.errors import NonFinite
from zoo.metrics import temperature_scaling
from zoo.metrics.logits import two_class_logits
from zoo.predict.early_exit import stopping_rule
from zoo.predict.early_exit.exit_heads import ExitHeads
from zoo.predict.early_exit.layerwise_encoder import Hidden, LayerwiseEncoder, joined
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.text_classifier import TextClassifier
from zoo.predict.predictors.text_inputs import Example

# Sizes of the parts of a compacted batch: 64 rows waste little on padding; 16 and 1 are for the rest.
_SIZES = (64, 16, 1)


class ExitedBatch(NamedTuple):
    """Logits, and how much was computed for each text.

    Attributes:
        logits: float32 `[texts, classes]`; calibrated where a text exited early, else the model's own.
        depths: int `[texts]`, number of layers (or tokens) that were computed.
    """

    logits: np.ndarray
    depths: np.ndarray


class Saved(NamedTuple):
    """Mean computation per text, with early exit and without.

    Attributes:
        mean: mean number of layers (or tokens) computed for a text.
        whole: the same for the plain forward pass.
        texts: number of texts.
    """

    mean: float
    whole: float
    texts: int


class EarlyExit:
    """The parts of early exit that layers and chunks of tokens share: the stopping rule, and the computation saved.

    Args:
        layers: number of layers; 0 for an LSTM, where texts have different numbers of tokens.

    Attributes:
        stopping: the stopping rule, with its promise.
    """

    def __init__(self, layers: int = 0):
        self._texts = self._computed = self._whole = 0
        self._layers = layers

    def choose(self, risk: float, delta: float = 0.05, rule: str = "confident", kind: str = "changed") -> None:
        """Chooses another stopping rule on the same validation examples; the arguments are those of the class.

        Raises:
            BadInput: risk, delta, rule or kind is out of range.
        """
        self.stopping = stopping_rule.choose(*self._validation, risk=risk, delta=delta, rule=rule, kind=kind)

    @property
    def saved(self) -> Saved:
        """Layers (or tokens) per text, over all calls so far."""
        texts = max(self._texts, 1)
        return Saved(self._computed / texts, self._whole / texts if self._texts else self._layers, self._texts)

    def logits(self, texts: Sequence[Example]) -> np.ndarray:
        """Float32 `[texts, classes]`; see `answers`."""
        return self.answers(texts).logits

    def _count(self, depths: np.ndarray, whole: int) -> None:
        self._texts += len(depths)
        self._computed += int(depths.sum())
        self._whole += whole


class TransformerExit(EarlyExit):
    """A classifier of texts by a Transformer encoder with early exit.

    Args:
        predictor: the run's classifier; its model does not change.
        source: the run's validation split; one quarter calibrates each layer's probabilities, the rest tests the
            threshold.
        exits: the run's exit heads, fitted to its training split.
        risk: largest share of lost answers, above 0 and below 1.
        delta: probability over validation sets that the share is larger.
        rule: "confident" or "patient".
        kind: which answers count as lost: "changed" ones, or "errors" that the full model would not have made.

    Attributes:
        stopping: the stopping rule, with its promise.

    Raises:
        BadInput: the model has no layers to skip, or risk, delta, rule or kind is out of range.
    """

    def __init__(
        self,
        predictor: TextClassifier,
        source: HeldOut,
        exits: ExitHeads,
        risk: float = 0.01,
        delta: float = 0.05,
        rule: str = "confident",
        kind: str = "changed",
    ):
        stopping_rule.check(risk, delta, rule, kind)
        self._predictor, self._exits, self._encoder = predictor, exits, LayerwiseEncoder(predictor.model)
        super().__init__(self._encoder.layers)
        pooled, ngrams, _ = self._encoder.all_layers(predictor, source.examples)
        logits = [self._exit_logits(number, each, ngrams) for number, each in enumerate(pooled)]
        fitted, tested = stopping_rule.parts(len(source.labels))
        self._calibrations = [temperature_scaling.temperature(each[fitted], source.labels[fitted]) for each in logits]
        full = source.logits[tested]
        early = [each.apply(some[tested]) for each, some in zip(self._calibrations, logits)]
        # The last layer is a stage, too, but its probabilities are never compared with a threshold.
        probabilities = np.stack([*early, temperature_scaling.identity(full.shape[1]).apply(full)])
        last = np.full(len(tested), len(early))
        self._validation = probabilities, last, full.argmax(axis=1), source.labels[tested]
        self.choose(risk, delta, rule, kind)

    def answers(self, texts: Sequence[Example]) -> ExitedBatch:
        """Classifies texts, in their order; an answer does not depend on the other texts of a batch.

        Args:
            texts: any number of texts, including none; a text may be empty. A model of pairs takes tuples of two texts.

        Raises:
            BadInput: an example is not a text (or a pair).
            NonFinite: the output of the model or of a layer is not finite.
        """
        logits = np.zeros((len(texts), len(self._predictor.classes)), np.float32)
        depths = np.full(len(texts), self._encoder.layers)
        if self.stopping.threshold == stopping_rule.NEVER:
            logits = two_class_logits(self._predictor.logits(texts))
        else:
            for chosen, inputs in self._predictor.fed(texts):
                self._batch(chosen, inputs, logits, depths)
        self._count(depths, self._encoder.layers * len(texts))
        return ExitedBatch(logits, depths)

    def _batch(self, chosen: np.ndarray, inputs: list[np.ndarray], outputs: np.ndarray, depths: np.ndarray) -> None:
        """Classifies one batch, layer by layer, until all texts have exited; fills rows of `outputs` and `depths`."""
        exit_scores = stopping_rule.ExitScores(self.stopping.rule, len(chosen))
        # Texts of the batch that have not exited, and their rows in `parts` and `pooled`.
        left = rows = np.arange(len(chosen))
        hidden, pooled = self._encoder.first_layer(inputs)
        ngrams = self._encoder.ngrams(inputs)[: len(chosen)]
        parts = [hidden]
        for number, calibration in enumerate(self._calibrations):
            logits = calibration.logits(self._exit_logits(number, pooled[rows], ngrams[left]))
            scores = exit_scores.scores(temperature_scaling.identity(logits.shape[1]).apply(logits), left)
            leave = scores > self.stopping.threshold
            outputs[chosen[left[leave]]], depths[chosen[left[leave]]] = logits[leave], number + 1
            left, rows = left[~leave], rows[~leave]
            if not len(left):
                return
            if leave.any():
                parts, rows = compacted(parts, rows)
            if number < len(self._calibrations) - 1:
                results = [self._encoder.inner_layer(number + 1, part) for part in parts]
                parts, pooled = [part for part, _ in results], np.concatenate([each for _, each in results])
        logits = np.concatenate([self._encoder.last_layer(part) for part in parts])[rows] + ngrams[left]
        wrong = chosen[left[~np.isfinite(logits).all(axis=1)]]
        if len(wrong):
            raise NonFinite(f"the model's output for text {wrong.min()} is not finite; expected a trained model")
        outputs[chosen[left]] = two_class_logits(logits)

    def _exit_logits(self, number: int, pooled: np.ndarray, ngrams: np.ndarray) -> np.ndarray:
        """Logits `[rows, classes]` after a layer, mixed with those of n-grams as the model mixes its last ones."""
        return self._encoder.share * self._exits.logits(number, pooled) + two_class_logits(ngrams)


def compacted(parts: list[Hidden], rows: np.ndarray) -> tuple[list[Hidden], np.ndarray]:
    """Chosen rows of all parts, in new parts of the sizes in use; and the new numbers of these rows."""
    together, sizes = joined(parts), _sizes(len(rows))
    # A part is filled up with repetitions of the last row.
    filled = np.concatenate([rows, np.repeat(rows[-1:], sum(sizes) - len(rows))])
    ends = np.cumsum(sizes)
    return [together.rows(filled[end - size : end]) for size, end in zip(sizes, ends)], np.arange(len(rows))


def _sizes(rows: int) -> list[int]:
    """Sizes of parts that hold the rows; small parts instead of a large one that would be half empty or more."""
    large, middle, small = _SIZES
    sizes = [large] * (rows // large)
    rows %= large
    if rows > large // 2:
        return [*sizes, large]
    if rows == small:
        return [*sizes, small]
    return [*sizes, *[middle] * -(-rows // middle)]
