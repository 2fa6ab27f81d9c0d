"""Early exit (`--refine=compute`): later layers of an encoder, or tokens for an LSTM, are skipped.

The methods and papers are in `zoo.predict.early_exit`.
"""

from pathlib import Path
from typing import Any

import numpy as np

from zoo.adaptation.stage import LogitsFn, StreamContext
from zoo.errors import BadInput
from zoo.models import transformer
from zoo.predict.early_exit import exit_heads
from zoo.predict.early_exit.lstm_exit import LstmExit
from zoo.predict.early_exit.transformer_exit import TransformerExit
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier


class Compute:
    """Answers as soon as the prediction is confident enough.

    No other stage may change the model, as the promised risk holds for the trained one. Stages on the output may
    follow.

    Args:
        workdir: folder of the run, whose training split fits an encoder's exit heads.
        risk: largest share of predictions that differ from the whole model's, with probability 0.95.
    """

    name, target = "compute", "input"
    max_score_ratio, restarts_each_batch = None, False

    def __init__(self, workdir: str | Path, risk: float = 0.01):
        self._workdir, self._risk = workdir, risk

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Chooses the thresholds of the exits.

        Raises:
            BadInput: the model does not support early exit.
        """
        if not predictor.reads_text:
            raise BadInput("--refine=compute: expected an encoder or an LSTM that reads texts; leave it out")
        if any(isinstance(layer, transformer.Block) for layer in predictor.model.layers):
            heads = exit_heads.load_or_fit(self._workdir, predictor)
            self._early = TransformerExit(predictor, source, heads, risk=self._risk)
        else:
            self._early = LstmExit(predictor, source, risk=self._risk)

    def propose(self, context: StreamContext) -> str:
        """Changes nothing: the thresholds are fixed from the beginning."""
        saved = self._early.saved
        done = f"; so far {saved.mean:.1f} of {saved.whole:.1f} in {saved.texts:,} texts" if saved.texts else ""
        return self._early.stopping.line() + done

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Logits of the exit layer, or of the part of the text that was read."""
        return self._early.logits(examples)

    def state(self) -> None:
        """None: nothing changes."""

    def load(self, state: None) -> None:
        """Does nothing."""
