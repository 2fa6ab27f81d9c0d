"""Flags of `zoo predict` for test-time adaptation (`--refine`) and selective prediction (`--abstain_risk`)."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import strict_json
from zoo.cli.parser import fraction, limit, positive, tell
from zoo.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

    from zoo.adaptation.refiner import Refiner
    from zoo.predict.calibration.selective_prediction import SelectiveRule
    from zoo.predict.evaluation.held_out import HeldOut
    from zoo.predict.predictors.predictor import Classifier

# Two hundred examples estimate statistics to a tenth of a standard deviation or better.
_BATCH = 200
_FLAGS = ("budget_steps", "budget_seconds", "budget_examples", "trace", "state", "batch", "labelled", "learner")
# The names in `zoo.adaptation.stages.parameters.LEARNERS`, which imports TensorFlow.
_LEARNERS = ("tent", "sar", "eata", "cotta")


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags to a command."""
    group = verb.add_argument_group(
        "test-time adaptation (prediction in several steps)",
        "the examples are answered in their order, while a copy of the model adapts to them; a change is kept only if "
        "guards agree, which need no labels",
    )
    group.add_argument(
        "--refine",
        metavar="PLAN",
        help="auto, or some of these with commas between: output (temperature scaling, label shift), statistics (of "
        "the normalisation layers), parameters (entropy minimisation, see --learner), input (images are rotated, "
        "scaled and shifted), views (mean prediction of slightly shifted images), perturbation (of pixels or word "
        "vectors, until views agree), compute (early exit from the layers of an encoder or the tokens of a text; at "
        "most one prediction in a hundred changes)",
    )
    group.add_argument(
        "--learner",
        choices=_LEARNERS,
        help="method of --refine=parameters: entropy minimisation (tent), sharpness-aware (sar), on confident and "
        "novel examples (eata), or a mean teacher (cotta); default: tent",
    )
    group.add_argument(
        "--labelled",
        metavar="FILE",
        help="a few labelled examples like those to predict (.npz with x and y; texts: .csv, .tsv, .jsonl): no change "
        "may lower the accuracy on them",
    )
    # --batch is its earlier name.
    about = f"examples at a time (default: {_BATCH})"
    group.add_argument("--batch_size", "--batch", dest="batch", metavar="N", type=positive, help=about)
    group.add_argument("--budget_steps", metavar="N", type=limit(int), help="most changes to try")
    group.add_argument("--budget_seconds", metavar="S", type=limit(float), help="most seconds to spend on changes")
    group.add_argument("--budget_examples", metavar="N", type=limit(int), help="try no change after N examples")
    group.add_argument(
        "--trace",
        metavar="FILE",
        help="write the changes that were tried: FILE.jsonl as JSON lines, FILE.png as a plot",
    )
    group.add_argument(
        "--state",
        metavar="FILE",
        help="file of the state learned from the stream: read at the start if it exists, written at the end",
    )
    group.add_argument(
        "--abstain_risk",
        metavar="P",
        type=fraction,
        help="selective prediction: answer only where at most a share P of the answers is wrong, on data like the "
        "validation split (with probability 0.95)",
    )
    group.add_argument(
        "--curve", metavar="FILE.png", help="plot the risk against the share that is answered; needs --abstain_risk"
    )


def check(arguments: argparse.Namespace) -> None:
    """Refuses flags that lack another flag or exclude each other.

    Raises:
        BadInput: names the first such flag.
    """
    for name in _FLAGS:
        if getattr(arguments, name) is not None and not arguments.refine:
            raise BadInput(f"--{name} is an option of test-time adaptation: add --refine")
    if arguments.learner and "parameters" not in arguments.refine.split(","):
        raise BadInput(f"--learner={arguments.learner} is an option of parameters: add parameters to --refine")
    if arguments.trace and not arguments.trace.endswith((".jsonl", ".png")):
        raise BadInput(f"--trace={arguments.trace}: expected FILE.jsonl, or FILE.png for a plot")
    for name in ("trace", "state", "curve"):
        folder = os.path.dirname(getattr(arguments, name) or "")
        if folder and not os.path.isdir(folder):
            raise BadInput(f"--{name}={getattr(arguments, name)}: the folder {folder} is missing; make it first")
    if arguments.curve and arguments.abstain_risk is None:
        raise BadInput("--curve needs --abstain_risk")
    for name in ("explain", "html"):
        if getattr(arguments, name) and arguments.refine:
            raise BadInput(f"--{name} explains the trained model, not one that changes: leave out --refine")


class Session:
    """The predictions of one command with `--refine`, `--abstain_risk` or both.

    Args:
        predictor: the run's classifier.
        arguments: the parsed command line, checked.

    Attributes:
        abstention: the rule when to answer; None: always.
    """

    def __init__(self, predictor: "Classifier", arguments: argparse.Namespace):
        from zoo.predict.evaluation import held_out

        if predictor.task != "classification":
            flag = "refine" if arguments.refine else "abstain_risk"
            raise BadInput(f"--{flag} is for classifiers; {arguments.workdir} holds another model: leave the flag out")
        self._arguments, self._predictor = arguments, predictor
        self._refiner: Refiner | None = None
        source = held_out.load(arguments.workdir, predictor)
        calibration = source
        if arguments.refine:
            # The examples that fit the stages cannot also promise a risk.
            if arguments.abstain_risk is not None:
                source, calibration = held_out.halves(source)
            self._refiner = self._make_refiner(source)
        self.abstention = self._choose_rule(calibration) if arguments.abstain_risk is not None else None

    def probabilities(self, examples: Any) -> "np.ndarray":
        """Class probabilities `[examples, classes]`."""
        import numpy as np

        if self._refiner is None:
            return self._predictor.probabilities(examples)
        size = self._arguments.batch or _BATCH
        parts = [self._refiner.answer(examples[first : first + size]) for first in range(0, len(examples), size)]
        return np.concatenate([np.zeros((0, len(self._predictor.classes))), *parts])

    def close(self) -> None:
        """Writes trace and state, and reports on stderr how many changes were kept.

        Raises:
            BadInput: a file cannot be written.
        """
        if self._refiner is None:
            return
        trace = self._refiner.trace
        # The state first: it took the longest to learn.
        if self._arguments.state:
            self._refiner.save(self._arguments.state)
        if self._arguments.trace:
            _write_trace(self._arguments.trace, trace)
        for name in dict.fromkeys(entry.stage for entry in trace):
            entries = [entry for entry in trace if entry.stage == name]
            kept, seconds = sum(entry.accepted for entry in entries), sum(entry.seconds for entry in entries)
            tell([f"{name}: kept {kept:,} of {len(entries):,}, {seconds:.1f} s; last: {entries[-1].reason}"])

    def _make_refiner(self, source: "HeldOut") -> "Refiner":
        from zoo.adaptation import labelled_examples, plans, refiner

        arguments, labelled = self._arguments, None
        learner = arguments.learner or _LEARNERS[0]
        plan = plans.stages(arguments.refine.split(","), self._predictor, arguments.workdir, learner)
        if arguments.labelled:
            labelled = labelled_examples.read(arguments.labelled, arguments.workdir, self._predictor)
        budget = refiner.Budget(arguments.budget_steps, arguments.budget_seconds, arguments.budget_examples)
        made = refiner.Refiner(self._predictor, plan, source, budget, labelled=labelled)
        if arguments.state and Path(arguments.state).exists():
            made.load(arguments.state)
        return made

    def _choose_rule(self, source: "HeldOut") -> "SelectiveRule":
        from zoo.metrics.logits import class_probabilities
        from zoo.predict.calibration import selective_prediction

        refiner = self._refiner
        probabilities = refiner.forward(source.examples) if refiner else class_probabilities(source.logits)
        confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == source.labels
        rule = selective_prediction.choose(confidence, correct, self._arguments.abstain_risk)
        if self._arguments.curve:
            selective_prediction.draw(self._arguments.curve, selective_prediction.curve(confidence, correct), rule)
        tell([rule.line()])
        return rule


def _write_trace(path: str, trace: Any) -> None:
    from zoo import files
    from zoo.adaptation import trace_plot

    if path.endswith(".png"):
        trace_plot.draw(path, trace)
    else:
        files.write(Path(path), "".join(strict_json.dumps(entry.as_json()) + "\n" for entry in trace))
