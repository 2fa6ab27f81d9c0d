"""A stage of `zoo.adaptation.refiner` that computes less: layers of an encoder, or tokens for an LSTM, are left out."""

from pathlib import Path
from typing import Any

import numpy as np

from zoo.adaptation.refiner import Forward, StreamContext
from zoo.errors import BadInput
from zoo.models import transformer
from zoo.predict.early_exit import exit_heads
from zoo.predict.early_exit.lstm_exit import LstmExit
from zoo.predict.early_exit.transformer_exit import TransformerExit
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier


class Compute:
    """Answers as soon as an answer will do; see `zoo.predict.early_exit`.

    It stands alone on the model as it was trained: what is left out was promised for that one. What is learned of the
    output may follow.

    Args:
        workdir: of the run, by whose training split an encoder's exits are fitted.
        risk: largest share of answers that differ from those of the whole model, with probability 0.95.
    """

    name, target = "compute", "input"
    max_score_ratio, restarts_each_batch = None, False

    def __init__(self, workdir: str | Path, risk: float = 0.01):
        self._workdir, self._risk = workdir, risk

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Chooses when to stop.

        Raises:
            BadInput: the model is of no kind that can be left early.
        """
        if not predictor.reads_text:
            raise BadInput("--refine=compute: expected an encoder or an LSTM that reads texts; leave it out")
        if any(isinstance(layer, transformer.Block) for layer in predictor.model.layers):
            self._early = TransformerExit(
                predictor, source, exit_heads.load_or_fit(self._workdir, predictor), risk=self._risk
            )
        else:
            self._early = LstmExit(predictor, source, risk=self._risk)

    def propose(self, seen: StreamContext) -> str:
        """Nothing: it is known from the beginning."""
        saved = self._early.saved
        done = f"; so far {saved.mean:.1f} of {saved.whole:.1f} in {saved.texts:,} texts" if saved.texts else ""
        return self._early.stopping.line() + done

    def logits(self, examples: Any, inner: Forward) -> np.ndarray:
        """Those of the layer, or of the part of the text, that sufficed."""
        return self._early.logits(examples)

    def state(self) -> None:
        """None changes."""

    def load(self, state: None) -> None:
        """Nothing to go back to."""
