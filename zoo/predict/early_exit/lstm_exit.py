"""Early exit for LSTM classifiers: the model stops reading a text once its prediction is confident.

    predictor = zoo.load(workdir)
    early = LstmExit(predictor, held_out.load(workdir, predictor), risk=0.01)
    logits = early.logits(texts)
    early.saved

A text is read in chunks of tokens, with the state carried on. After each chunk the model's own pooling and head give a
prediction from the tokens so far (as in Yu et al., "Learning to skim text", 2017, but without jumps and without
training), until it is accepted (see `stopping_rule`) or the text ends. A waiting text then takes the free row, so
batches stay full. The model does not change.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import special

from zoo.errors import BadInput, NonFinite
from zoo.metrics import temperature_scaling
from zoo.metrics.logits import two_class_logits
from zoo.predict.early_exit import stopping_rule
from zoo.predict.early_exit.chunked_lstm import ChunkedLstm
from zoo.predict.early_exit.transformer_exit import EarlyExit, ExitedBatch
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.text_classifier import TextClassifier
from zoo.predict.predictors.text_inputs import Example

# From the numbers of texts, the numbers of the chunks just read, and float64 logits: bool, which texts stop here.
_Stop = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

# With fewer unfinished examples a temperature is too uncertain: the one of the chunk before is used.
_FEWEST = 50


class LstmExit(EarlyExit):
    """A classifier of texts by a one-way LSTM with early exit.

    Args:
        predictor: the run's classifier; its model does not change.
        source: the run's validation split; one quarter calibrates the probabilities after each chunk, the rest tests
            the threshold.
        risk: largest share of lost answers, above 0 and below 1.
        delta: probability over validation sets that the share is larger.
        rule: "confident" or "patient".
        kind: which answers count as lost: "changed" ones, or "errors" that the full model would not have made.
        chunk: tokens per chunk; a program call costs little compared with 16 steps of 256 texts.

    Attributes:
        stopping: the stopping rule, with its promise.

    Raises:
        BadInput: the model is bidirectional or not an LSTM, or an argument is out of range.
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
        self._predictor, self._lstm = predictor, ChunkedLstm(predictor.model, chunk)
        logits, last = self._all_chunks(source.examples)
        fitted, tested = stopping_rule.parts(len(last))
        self._temperatures = _temperatures(logits[:, fitted], source.labels[fitted], last[fitted])
        probabilities = special.softmax(logits[:, tested] / self._temperatures[:, None, None], axis=2)
        full = source.logits[tested].argmax(axis=1)
        self._validation = probabilities, last[tested], full, source.labels[tested]
        self.choose(risk, delta, rule, kind)

    def answers(self, texts: Sequence[Example]) -> ExitedBatch:
        """Classifies texts, in their order; an answer does not depend on the other texts of a batch.

        Args:
            texts: any number of texts, including none; a text may be empty.

        Returns:
            The logits, calibrated where reading stopped early, else the model's own: to 1e-5, as a loop that continues
            from a state rounds differently; bit for bit where nothing may stop early. And how many tokens of each text
            were read.

        Raises:
            BadInput: an example is not a text.
            NonFinite: the model's output is not finite.
        """
        columns = self._predictor.columns(texts)
        lengths, last = self._lengths(columns)
        outputs = np.zeros((len(texts), len(self._predictor.classes)), np.float32)
        depths, exit_scores = lengths.copy(), stopping_rule.ExitScores(self.stopping.rule, len(texts))

        def confident(chosen: np.ndarray, stages: np.ndarray, logits: np.ndarray) -> np.ndarray:
            # A text may have more chunks than every validation text.
            calibrated = logits / self._temperatures[np.minimum(stages, len(self._temperatures) - 1)][:, None]
            scores = exit_scores.scores(special.softmax(calibrated, axis=1), chosen)
            unread = stages < last[chosen]
            stop = (scores > self.stopping.threshold) & unread
            outputs[chosen] = np.where(unread[:, None], calibrated, logits)
            depths[chosen[stop]] = (stages[stop] + 1) * self._lstm.size
            return stop

        if self.stopping.threshold == stopping_rule.NEVER:
            outputs = two_class_logits(self._predictor.logits(texts))
        else:
            self._read(columns["tokens"], last, confident)
        self._count(depths, int(lengths.sum()))
        return ExitedBatch(outputs, depths)

    def _all_chunks(self, texts: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
        """Logits after each chunk of whole texts, `[chunks, texts, classes]`, with zeros after a text's last chunk."""
        columns = self._predictor.columns(texts)
        _, last = self._lengths(columns)
        outputs = np.zeros((int(last.max(initial=0)) + 1, len(texts), len(self._predictor.classes)))

        def never(chosen: np.ndarray, stages: np.ndarray, logits: np.ndarray) -> np.ndarray:
            outputs[stages, chosen] = logits
            return np.zeros(len(chosen), bool)

        self._read(columns["tokens"], last, never)
        return outputs, last

    def _lengths(self, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The number of tokens of each text, at least 1, and the number of its last chunk."""
        lengths = np.maximum(columns["length"], 1).astype(int)
        return lengths, (lengths - 1) // self._lstm.size

    def _read(self, tokens: np.ndarray, last: np.ndarray, stop: _Stop) -> None:
        """Reads each text until `stop`, or its end; long texts first, so that batches are full at the end, too."""
        waiting = deque(np.argsort(-last, kind="stable").tolist())
        batch = self._lstm.batch(tokens, len(waiting))
        while waiting or batch.live.any():
            batch.fill(waiting)
            chosen, stages, logits = batch.read()
            wrong = chosen[~np.isfinite(logits).all(axis=1)]
            if len(wrong):
                raise NonFinite(f"the model's output for text {wrong.min()} is not finite; expected a trained model")
            batch.leave(stop(chosen, stages, two_class_logits(logits)) | (stages == last[chosen]))


def _temperatures(logits: np.ndarray, labels: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The temperature after each chunk, `[chunks]`, from the examples that have further chunks."""
    temperatures = np.ones(len(logits))
    for stage, each in enumerate(logits):
        unfinished = last > stage
        if unfinished.sum() >= _FEWEST:
            temperatures[stage] = temperature_scaling.temperature(each[unfinished], labels[unfinished]).temperature
        elif stage:
            temperatures[stage] = temperatures[stage - 1]
    return temperatures
