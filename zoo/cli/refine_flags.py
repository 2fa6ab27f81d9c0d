"""Flags of `zoo predict` for test-time adaptation, selective prediction and prediction sets."""

import argparse
import os

from zoo.cli.parser import fraction, limit, positive
from zoo.errors import BadInput

# Two hundred examples estimate statistics to a tenth of a standard deviation or better.
BATCH = 200
# Flags whose answers depend on those before, or promise something.
SESSION = ("refine", "abstain_risk", "prediction_sets")
_FLAGS = ("budget_steps", "budget_seconds", "budget_examples", "trace", "state", "batch", "labelled", "learner")
# The names in `zoo.adaptation.stages.parameters.LEARNERS`, which imports TensorFlow.
LEARNERS = ("tent", "sar", "eata", "cotta", "deyo", "roid", "shot", "rotta")


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
        "the normalisation layers), coral (a copy of the model is trained on validation images that are recoloured "
        "like the stream), coherence (neighbours that share a class, where their order proves it), parameters "
        "(entropy minimisation, see --learner), input (images are rotated, scaled and shifted, columns of a table in "
        "other units scaled back), views (mean prediction of slightly shifted images), perturbation (of pixels or "
        "word vectors, until views agree), compute (early exit from the layers of an encoder or the tokens of a text; "
        "at most one prediction in a hundred changes), interpolation (batch normalisation between the training's and "
        "the stream's statistics), t3a (class prototypes of the last features), lame (similar examples of the stream "
        "agree), batch_prior (the classes of the batch become more probable), neighbours (half of the "
        "answer is a vote of the nearest validation examples)",
    )
    group.add_argument(
        "--learner",
        choices=LEARNERS,
        help="method of --refine=parameters: entropy minimisation (tent), sharpness-aware (sar), on confident and "
        "novel examples (eata), on images whose shape matters (deyo), by odds and a pull back to the source (roid); "
        "a mean teacher (cotta), with a memory of all classes (rotta); information maximisation of all layers but the "
        "last (shot); default: tent",
    )
    group.add_argument(
        "--labelled",
        metavar="FILE",
        help="a few labelled examples like those to predict (.npz with x and y; texts: .csv, .tsv, .jsonl): no change "
        "may lower the accuracy on them, and once the stream has shifted promises rest on them",
    )
    # --batch is its earlier name.
    about = f"examples at a time (default: {BATCH})"
    group.add_argument("--batch_size", "--batch", dest="batch", metavar="N", type=positive, help=about)
    group.add_argument(
        "--offline",
        action="store_true",
        help="adapt to all examples of a file before the first is answered, as if they came in one batch: with "
        "coherence each is also answered by those that follow it",
    )
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
    _add_promises(verb)


def add_sets(group: argparse._ActionsContainer) -> None:
    """Adds --prediction_sets and --class_conditional."""
    group.add_argument(
        "--prediction_sets",
        metavar="ALPHA",
        type=fraction,
        help="of a classifier: sets of classes that hold the true one with a probability of at least 1 - ALPHA, on "
        "data like the validation split (split conformal prediction); 0.1, say",
    )
    group.add_argument(
        "--class_conditional",
        action="store_true",
        help="the probability of --prediction_sets holds for the examples of each class, rare ones included",
    )


def check_sets(arguments: argparse.Namespace) -> None:
    """Refuses --class_conditional without --prediction_sets.

    Raises:
        BadInput: in that case.
    """
    if arguments.class_conditional and arguments.prediction_sets is None:
        raise BadInput("--class_conditional is an option of prediction sets: add --prediction_sets=0.1")


def _add_promises(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group(
        "promises (selective prediction, prediction sets)",
        "what a classifier promises of its answers on data like the validation split; a test without labels watches "
        "whether the stream is like it (docs/prediction_sets.md)",
    )
    add_sets(group)
    group.add_argument(
        "--abstain_risk",
        metavar="P",
        type=fraction,
        help="selective prediction: answer only where at most a share P of the answers is wrong, on data like the "
        "validation split (with probability 0.95)",
    )
    group.add_argument(
        "--on_shift",
        choices=("abstain", "warn"),
        default="abstain",
        help="what to do where the stream turns out to be unlike the validation split (one false alarm in 1,000 "
        "streams): abstain where no evidence is left for the promise, with sets of all classes and without early exit; "
        "or warn, and go on as before (default: abstain)",
    )
    group.add_argument(
        "--curve", metavar="FILE.png", help="plot the risk against the share that is answered; needs --abstain_risk"
    )


def check(arguments: argparse.Namespace) -> None:
    """Refuses flags that lack another flag or exclude each other.

    Raises:
        BadInput: names the first such flag.
    """
    promises = arguments.abstain_risk is not None or arguments.prediction_sets is not None
    for name in _FLAGS:
        has_use = arguments.refine or (name in ("labelled", "batch") and promises)
        if getattr(arguments, name) is not None and not has_use:
            raise BadInput(f"--{name} is an option of test-time adaptation: add --refine")
    if arguments.offline and (not arguments.refine or arguments.batch is not None):
        raise BadInput("--offline makes one batch of all examples: add --refine, and leave out --batch_size")
    if arguments.offline and "-" in arguments.files:
        raise BadInput("--offline is of whole files: expected no - beside it")
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
    check_sets(arguments)
    for name in ("explain", "html"):
        if getattr(arguments, name) and arguments.refine:
            raise BadInput(f"--{name} explains the trained model, not one that changes: leave out --refine")
