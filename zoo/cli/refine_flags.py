"""The flags of `zoo predict` that improve predictions on the way, or withhold them; imports nothing that takes time."""

import argparse
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo.cli.parser import positive, tell
from zoo.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

    from zoo.adaptation.refiner import Refiner
    from zoo.predict.calibration.selective_prediction import SelectiveRule
    from zoo.predict.predictors.predictor import Classifier

# Statistics of two hundred are known to a tenth of a standard deviation or better.
_BATCH = 200
_FLAGS = ("budget_steps", "budget_seconds", "budget_examples", "trace", "state", "batch", "labelled", "learner")
# Of `zoo.adaptation.stages.losses`, which brings TensorFlow.
_LEARNERS = ("tent", "sar", "eata", "cotta")


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds them to a verb."""
    group = verb.add_argument_group(
        "prediction in several steps",
        "what is made of the examples, in their order, improves the model's copy, which answers those that follow; "
        "each change is kept only if guards that need no labels agree",
    )
    group.add_argument(
        "--refine",
        metavar="PLAN",
        help="auto, or some of: output (temperature, shares of the classes), statistics (normalisation), parameters "
        "(entropy minimisation, or see --learner), input (images are turned, sized and moved), views (the mean answer "
        "to slightly moved images), perturbation (of pixels or word vectors, until views agree), compute (no "
        "more layers of an encoder, or tokens for an LSTM, than an answer needs: at most one in a hundred differs), "
        "with commas between",
    )
    group.add_argument(
        "--learner",
        choices=_LEARNERS,
        help="of --refine=parameters: entropy minimisation (default: tent), where the loss is flat (sar), on answers "
        "unlike those before (eata), or a slow teacher (cotta)",
    )
    group.add_argument(
        "--labelled",
        metavar="FILE",
        help="a few labelled examples of the same kind (.npz with x and y; texts: .csv, .tsv, .jsonl): no change "
        "may lower the accuracy on them",
    )
    # --batch is its earlier name.
    about = f"examples at a time (default: {_BATCH})"
    group.add_argument("--batch_size", "--batch", dest="batch", metavar="N", type=positive, help=about)
    group.add_argument("--budget_steps", metavar="N", type=_budget(int), help="most changes to try")
    group.add_argument("--budget_seconds", metavar="S", type=_budget(float), help="most seconds to spend on changes")
    group.add_argument("--budget_examples", metavar="N", type=_budget(int), help="no change is tried after so many")
    group.add_argument(
        "--trace",
        metavar="FILE",
        help="write what was tried, to FILE.jsonl as lines of JSON, or to FILE.png as a picture",
    )
    group.add_argument(
        "--state", metavar="FILE", help="go on from what was learned of a stream before, and write it at the end"
    )
    group.add_argument(
        "--abstain_risk",
        metavar="P",
        type=_share,
        help="answer only where at most a share P of the answers is wrong, on data like that of validation "
        "(probability 0.95)",
    )
    group.add_argument("--curve", metavar="FILE.png", help="draw the risk against the share that is answered")


def check(arguments: argparse.Namespace) -> None:
    """Refuses flags that need others.

    Raises:
        BadInput: names the first such flag.
    """
    for name in _FLAGS:
        if getattr(arguments, name) is not None and not arguments.refine:
            raise BadInput(f"--{name} is of prediction in several steps: expected --refine beside it")
    if arguments.learner and "parameters" not in arguments.refine.split(","):
        raise BadInput(f"--learner={arguments.learner} is of --refine=parameters: expected parameters in --refine")
    if arguments.trace and not arguments.trace.endswith((".jsonl", ".png")):
        raise BadInput(f"--trace={arguments.trace}: expected FILE.jsonl, or FILE.png for a picture")
    for name in ("trace", "state", "curve"):
        folder = os.path.dirname(getattr(arguments, name) or "")
        if folder and not os.path.isdir(folder):
            raise BadInput(f"--{name}={getattr(arguments, name)}: there is no folder {folder}; make it first")
    if arguments.curve and arguments.abstain_risk is None:
        raise BadInput("--curve draws what --abstain_risk chooses from: expected it beside")
    for name in ("explain", "html"):
        if getattr(arguments, name) and arguments.refine:
            raise BadInput(f"--{name} explains the trained model, not one that changes: leave out --refine")


class Session:
    """The predictions of one command.

    Args:
        predictor: of the run.
        arguments: the parsed command line, checked.

    Attributes:
        abstention: when to answer; None for always.
    """

    def __init__(self, predictor: "Classifier", arguments: argparse.Namespace):
        from zoo.predict.evaluation import held_out as sources

        if predictor.task != "classification":
            flag = "refine" if arguments.refine else "abstain_risk"
            raise BadInput(f"--{flag} is for classifiers; {arguments.workdir} holds another model: leave the flag out")
        self._arguments, self._predictor = arguments, predictor
        self._refiner: Refiner | None = None
        known = sources.load(arguments.workdir, predictor)
        kept = known
        if arguments.refine:
            # What fits the stages cannot also promise a risk.
            known, kept = sources.halves(known) if arguments.abstain_risk is not None else (known, known)
            self._refiner = self._made(known)
        self.abstention = self._chosen(kept) if arguments.abstain_risk is not None else None

    def probabilities(self, examples: Any) -> "np.ndarray":
        """Of the classes, `[examples, classes]`."""
        import numpy as np

        if self._refiner is None:
            return self._predictor.probabilities(examples)
        size = self._arguments.batch or _BATCH
        found = [self._refiner.answer(examples[first : first + size]) for first in range(0, len(examples), size)]
        return np.concatenate([np.zeros((0, len(self._predictor.classes))), *found])

    def close(self) -> None:
        """Writes trace and state, and says on stderr what was kept.

        Raises:
            BadInput: they cannot be written.
        """
        if self._refiner is None:
            return
        trace = self._refiner.trace
        # First what took the longest to learn.
        if self._arguments.state:
            self._refiner.save(self._arguments.state)
        if (self._arguments.trace or "").endswith(".png"):
            from zoo.adaptation import trace_plot

            trace_plot.draw(self._arguments.trace, trace)
        elif self._arguments.trace:
            _write(self._arguments.trace, "".join(json.dumps(line.as_json()) + "\n" for line in trace))
        for name in dict.fromkeys(line.stage for line in trace):
            lines = [line for line in trace if line.stage == name]
            kept = sum(line.accepted for line in lines)
            seconds = sum(line.seconds for line in lines)
            tell([f"{name}: kept {kept:,} of {len(lines):,}, {seconds:.1f} s; last: {lines[-1].reason}"])

    def _made(self, known: Any) -> "Refiner":
        from pathlib import Path

        from zoo.adaptation import labelled_examples, plans
        from zoo.adaptation import refiner as multi_step

        arguments = self._arguments
        names, learner = arguments.refine.split(","), arguments.learner or _LEARNERS[0]
        plan = plans.stages(names, self._predictor, arguments.workdir, learner)
        judged = (
            labelled_examples.read(arguments.labelled, arguments.workdir, self._predictor)
            if arguments.labelled
            else None
        )
        budget = multi_step.Budget(arguments.budget_steps, arguments.budget_seconds, arguments.budget_examples)
        refiner = multi_step.Refiner(self._predictor, plan, known, budget, labelled=judged)
        if arguments.state and Path(arguments.state).exists():
            refiner.load(arguments.state)
        return refiner

    def _chosen(self, known: Any) -> "SelectiveRule":
        from zoo.metrics.logits import class_probabilities
        from zoo.predict.calibration import selective_prediction

        found = self._refiner.forward(known.examples) if self._refiner else class_probabilities(known.logits)
        confidence, correct = found.max(axis=1), found.argmax(axis=1) == known.labels
        chosen = selective_prediction.choose(confidence, correct, self._arguments.abstain_risk)
        if self._arguments.curve:
            selective_prediction.draw(self._arguments.curve, selective_prediction.curve(confidence, correct), chosen)
        tell([chosen.line()])
        return chosen


def _write(path: str, text: str) -> None:
    from pathlib import Path

    from zoo import files

    files.write(Path(path), text)


def _budget(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            found = kind(text)
        except ValueError:
            found = -1
        if not 0 <= found < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
        return found

    return read


def _share(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share above 0 and below 1")
    return found
