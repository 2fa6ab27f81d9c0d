"""Early exit: an encoder's later layers are not computed for texts whose answer an earlier one is sure of.

    found = predictor.load(workdir)
    early = TransformerExit(found, held_out.load(workdir, found), exit_heads.of_run(workdir, found), risk=0.01)
    logits = early.logits(texts)
    early.saved

Behind each layer the texts whose answer will do leave the batch, by one of two rules (DeeBERT: Xin et al., 2020; PABEE:
Zhou et al., 2020; see `stopping_rule`), and the others are moved together to batches of the few sizes that
programs are compiled for. The model is not touched. Where nothing may leave early, it is the plain forward pass that
answers. Texts that go through all layers one by one get its logits in float32; in bfloat16 a MiniLM's differ by 0.002.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.errors import NonFinite
from zoo.metrics.logits import two_class_logits
from zoo.predict.calibration import temperature_scaling
from zoo.predict.early_exit import stopping_rule
from zoo.predict.early_exit.exit_heads import ExitHeads
from zoo.predict.early_exit.layerwise_encoder import Hidden, LayerwiseEncoder, joined
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.text_classifier import TextClassifier
from zoo.predict.predictors.text_inputs import Example

# Of parts of a batch that texts have left: parts of 64 rows waste little on padding; 16 and 1 are for the rest.
_SIZES = (64, 16, 1)


class ExitedBatch(NamedTuple):
    """Answers, and how far each of them had to go.

    Attributes:
        logits: float32 `[texts, classes]`; calibrated where a text left early, else the model's own.
        depths: int `[texts]`, layers (or parts of a text) that were computed.
    """

    logits: np.ndarray
    depths: np.ndarray


class Saved(NamedTuple):
    """What was computed, and of how much.

    Attributes:
        mean: layers (or tokens) computed for a text.
        whole: that the plain forward pass computes for a text, on average.
        texts: answered.
    """

    mean: float
    whole: float
    texts: int


class Stopper:
    """What stopping early comes to, behind layers or parts of a text: the promise, and what was saved.

    Args:
        whole: layers of any text; 0 where texts differ.

    Attributes:
        stopping: when to stop, and what is promised.
    """

    def __init__(self, whole: int = 0):
        self._texts = self._done = self._whole = 0
        self._first = whole

    def choose(self, risk: float, delta: float = 0.05, rule: str = "confident", kind: str = "changed") -> None:
        """Makes another promise from the same measurements; the arguments are those of the class.

        Raises:
            BadInput: risk, delta, rule or kind are not as there.
        """
        self.stopping = stopping_rule.choose(*self._known, risk=risk, delta=delta, rule=rule, kind=kind)

    @property
    def saved(self) -> Saved:
        """Layers (or tokens) for each text of all calls so far."""
        texts = max(self._texts, 1)
        return Saved(self._done / texts, self._whole / texts if self._texts else self._first, self._texts)

    def logits(self, texts: Sequence[Example]) -> np.ndarray:
        """Float32 `[texts, classes]`; see `answers`."""
        return self.answers(texts).logits

    def _count(self, depths: np.ndarray, whole: int) -> None:
        self._texts += len(depths)
        self._done, self._whole = self._done + int(depths.sum()), self._whole + whole


class TransformerExit(Stopper):
    """A classifier of texts by a Transformer encoder that computes no more layers than it needs.

    Args:
        predictor: of the run; its model stays as it is.
        source: the validation split: by a quarter of it each layer's probabilities are calibrated, on the rest the
            threshold is tested.
        exits: of the run, fitted to its training split.
        risk: largest share of answers lost by it, above 0 and below 1.
        delta: probability over validation sets that it is larger.
        rule: "confident" or "patient".
        kind: of answers lost: "changed" ones, or "errors" that the full model would not have made.

    Attributes:
        stopping: when texts leave, and what is promised.

    Raises:
        BadInput: the model has no layers to leave out, or risk, delta, rule or kind are not as above.
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
        self._predictor, self._exits, self._layered = predictor, exits, LayerwiseEncoder(predictor.model)
        super().__init__(self._layered.layers)
        pooled, _ = self._layered.everything(predictor, source.examples)
        logits = [exits.logits(number, each) for number, each in enumerate(pooled)]
        fitted, tested = stopping_rule.parts(len(source.labels))
        self._calibrations = [temperature_scaling.temperature(each[fitted], source.labels[fitted]) for each in logits]
        full = source.logits[tested]
        found = [each.apply(some[tested]) for each, some in zip(self._calibrations, logits)]
        # The last layer is a stage like the others, which nobody asks for its probabilities.
        probabilities = np.stack([*found, temperature_scaling.identity(full.shape[1]).apply(full)])
        last = np.full(len(tested), len(found))
        self._known = probabilities, last, full.argmax(axis=1), source.labels[tested]
        self.choose(risk, delta, rule, kind)

    def answers(self, texts: Sequence[Example]) -> ExitedBatch:
        """Answers texts, in their order; who shares a batch changes no answer.

        Args:
            texts: any number, also none; a text may be empty. Of a model of pairs tuples of two texts.

        Raises:
            BadInput: an example is none.
            NonFinite: the output of the model or of a layer is.
        """
        found = np.zeros((len(texts), len(self._predictor.classes)), np.float32)
        depths = np.full(len(texts), self._layered.layers)
        if self.stopping.threshold == stopping_rule.NEVER:
            found = two_class_logits(self._predictor.logits(texts))
        else:
            for chosen, inputs in self._predictor.fed(texts):
                self._batch(chosen, inputs, found, depths)
        self._count(depths, self._layered.layers * len(texts))
        return ExitedBatch(found, depths)

    def _batch(self, chosen: np.ndarray, inputs: list[np.ndarray], found: np.ndarray, depths: np.ndarray) -> None:
        """Answers the texts of one batch, from the first layer to the last that one of them needs."""
        watch = stopping_rule.ExitScores(self.stopping.rule, len(chosen))
        # Numbers of the rows that are left, where they stand in what was computed, and that.
        left = places = np.arange(len(chosen))
        hidden, pooled = self._layered.begin(inputs)
        parts = [hidden]
        for number, each in enumerate(self._calibrations):
            logits = each.logits(self._exits.logits(number, pooled[places]))
            scores = watch.scores(temperature_scaling.identity(logits.shape[1]).apply(logits), left)
            leave = scores > self.stopping.threshold
            found[chosen[left[leave]]], depths[chosen[left[leave]]] = logits[leave], number + 1
            left, places = left[~leave], places[~leave]
            if not len(left):
                return
            if leave.any():
                parts, places = compacted(parts, places)
            if number < len(self._calibrations) - 1:
                made = [self._layered.follow(number + 1, part) for part in parts]
                parts, pooled = [part for part, _ in made], np.concatenate([each for _, each in made])
        logits = np.concatenate([self._layered.finish(part) for part in parts])[places]
        wrong = chosen[left[~np.isfinite(logits).all(axis=1)]]
        if len(wrong):
            raise NonFinite(f"the model's output for text {wrong.min()} is not finite; expected a trained model")
        found[chosen[left]] = two_class_logits(logits)


def compacted(parts: list[Hidden], places: np.ndarray) -> tuple[list[Hidden], np.ndarray]:
    """The rows at some places of all parts, moved together to parts of the sizes in use; and their new places."""
    together, sizes = joined(parts), _sizes(len(places))
    # What a part has too many is a row once more.
    filled = np.concatenate([places, np.repeat(places[-1:], sum(sizes) - len(places))])
    ends = np.cumsum(sizes)
    return [together.rows(filled[end - size : end]) for size, end in zip(sizes, ends)], np.arange(len(places))


def _sizes(rows: int) -> list[int]:
    """Sizes of parts that hold the rows; small ones in the place of a large one that would be half empty or more."""
    large, middle, small = _SIZES
    found = [large] * (rows // large)
    rows %= large
    if rows > large // 2:
        return [*found, large]
    if rows == small:
        return [*found, small]
    return [*found, *[middle] * -(-rows // middle)]
