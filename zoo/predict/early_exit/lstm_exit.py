"""Early reading: an LSTM classifier stops reading a text when it is sure of the answer.

    found = predictor.load(workdir)
    early = LstmExit(found, held_out.load(workdir, found), risk=0.01)
    logits = early.logits(texts)
    early.saved

A text is read in chunks of tokens, with the state carried on. After each the model's own pooling and head answer to
what was read so far (as in Yu et al., "Learning to skim text", 2017, without the jumps: nothing is trained for it),
until the answer will do (see `stopping_rule`) or the text ends. The next text takes the place of one that is
done, so that batches stay full. The model is not touched.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import special

from zoo.errors import BadInput, NonFinite
from zoo.metrics.logits import two_class_logits
from zoo.predict.calibration import temperature_scaling
from zoo.predict.early_exit import stopping_rule
from zoo.predict.early_exit.chunked_lstm import ChunkedLstm
from zoo.predict.early_exit.transformer_exit import ExitedBatch, Stopper
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.text_classifier import TextClassifier
from zoo.predict.predictors.text_inputs import Example

# Of texts that have read a chunk: their numbers, the chunks' numbers, float64 logits; bool, which of them have enough.
_Judge = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

# Fewer examples that still read say too little of a temperature: the one of the chunk before stays.
_FEWEST = 50


class LstmExit(Stopper):
    """A classifier of texts by an LSTM in one direction that reads no further than it needs.

    Args:
        predictor: of the run; its model stays as it is.
        source: the validation split: by a quarter of it the probabilities after each chunk are calibrated, on the rest
            the threshold is tested.
        risk: largest share of answers lost by it, above 0 and below 1.
        delta: probability over validation sets that it is larger.
        rule: "confident" or "patient".
        kind: of answers lost: "changed" ones, or "errors" that the full model would not have made.
        chunk: tokens that are read at once; what a program call costs is small against 16 steps of 256 texts.

    Attributes:
        stopping: when to stop, and what is promised.

    Raises:
        BadInput: the model reads in both directions or is no LSTM, or the arguments are not as above.
    """

    def __init__(
        self,
        predictor: TextClassifier,
        source: HeldOut,
        risk: float = 0.01,
        delta: float = 0.05,
        rule: str = "confident",
        kind: str = "changed",
        chunk: int = 16,
    ):
        stopping_rule.check(risk, delta, rule, kind)
        if chunk < 1:
            raise BadInput(f"the chunk is {chunk} tokens: expected 1 or more")
        super().__init__()
        self._predictor, self._chunks = predictor, ChunkedLstm(predictor.model, chunk)
        logits, last = self._everything(source.examples)
        fitted, tested = stopping_rule.parts(len(last))
        self._temperatures = _temperatures(logits[:, fitted], source.labels[fitted], last[fitted])
        probabilities = special.softmax(logits[:, tested] / self._temperatures[:, None, None], axis=2)
        full = source.logits[tested].argmax(axis=1)
        self._known = probabilities, last[tested], full, source.labels[tested]
        self.choose(risk, delta, rule, kind)

    def answers(self, texts: Sequence[Example]) -> ExitedBatch:
        """Answers texts, in their order; who shares a batch changes no answer.

        Args:
            texts: any number, also none; a text may be empty.

        Returns:
            The logits, calibrated where the reading stopped early, else the model's own: to 1e-5, as a loop that goes
            on from a state rounds otherwise than one from the start; bit for bit where nothing may stop early. And
            how many tokens of each text were read.

        Raises:
            BadInput: an example is none.
            NonFinite: the model's output is.
        """
        columns = self._predictor.columns(texts)
        lengths, last = self._lengths(columns)
        found = np.zeros((len(texts), len(self._predictor.classes)), np.float32)
        depths, watch = lengths.copy(), stopping_rule.ExitScores(self.stopping.rule, len(texts))

        def judge(chosen: np.ndarray, stages: np.ndarray, logits: np.ndarray) -> np.ndarray:
            # A text may be longer than all of validation.
            calibrated = logits / self._temperatures[np.minimum(stages, len(self._temperatures) - 1)][:, None]
            scores = watch.scores(special.softmax(calibrated, axis=1), chosen)
            unread = stages < last[chosen]
            stop = (scores > self.stopping.threshold) & unread
            found[chosen] = np.where(unread[:, None], calibrated, logits)
            depths[chosen[stop]] = (stages[stop] + 1) * self._chunks.size
            return stop

        if self.stopping.threshold == stopping_rule.NEVER:
            found = two_class_logits(self._predictor.logits(texts))
        else:
            self._read(columns["tokens"], last, judge)
        self._count(depths, int(lengths.sum()))
        return ExitedBatch(found, depths)

    def _everything(self, texts: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
        """The logits after each chunk of whole texts, `[chunks, texts, classes]`, zeros after a text's last one."""
        columns = self._predictor.columns(texts)
        _, last = self._lengths(columns)
        found = np.zeros((int(last.max(initial=0)) + 1, len(texts), len(self._predictor.classes)))

        def keep(chosen: np.ndarray, stages: np.ndarray, logits: np.ndarray) -> np.ndarray:
            found[stages, chosen] = logits
            return np.zeros(len(chosen), bool)

        self._read(columns["tokens"], last, keep)
        return found, last

    def _lengths(self, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of each text, at least 1, and the number of its last chunk."""
        lengths = np.maximum(columns["length"], 1).astype(int)
        return lengths, (lengths - 1) // self._chunks.size

    def _read(self, tokens: np.ndarray, last: np.ndarray, judge: _Judge) -> None:
        """Reads texts until `judge` has enough, or they end; long ones first, so that none is left alone at the end."""
        waiting = deque(np.argsort(-last, kind="stable").tolist())
        batch = self._chunks.batch(tokens, len(waiting))
        while waiting or batch.live.any():
            batch.fill(waiting)
            chosen, stages, logits = batch.read()
            wrong = chosen[~np.isfinite(logits).all(axis=1)]
            if len(wrong):
                raise NonFinite(f"the model's output for text {wrong.min()} is not finite; expected a trained model")
            batch.leave(judge(chosen, stages, two_class_logits(logits)) | (stages == last[chosen]))


def _temperatures(logits: np.ndarray, labels: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The temperature after each chunk, `[chunks]`, from the examples that read on after it."""
    found = np.ones(len(logits))
    for stage, each in enumerate(logits):
        reading = last > stage
        if reading.sum() >= _FEWEST:
            found[stage] = temperature_scaling.temperature(each[reading], labels[reading]).temperature
        elif stage:
            found[stage] = found[stage - 1]
    return found
