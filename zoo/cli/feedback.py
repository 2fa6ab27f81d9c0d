"""`zoo feedback`: a classifier's surest answers as training data for a further round."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli.parser import add_verb, require_run
from zoo.errors import BadInput

if TYPE_CHECKING:
    from zoo.adaptation.pseudo_labels import Feedback


def add(verbs: Any) -> None:
    """`zoo feedback WORKDIR FILE --out pseudo.csv`."""
    verb = add_verb(
        verbs,
        "feedback",
        "Write a classifier's surest answers as training data.",
        "They answer unlabelled examples and are for a further round. Of each predicted class the same share is taken, "
        "so that no class takes over. Examples of the run's validation and test split are left out, and counted. The "
        "command of the further round is printed: it learns from the run's own training split and these.",
    )
    verb.add_argument(
        "file",
        metavar="FILE",
        help="examples without labels: .npy or .npz, or for a run on texts .txt, .csv, .tsv or .jsonl",
    )
    verb.add_argument(
        "--out", metavar="FILE", required=True, help="what to write: .npz, or for texts .csv, .tsv or .jsonl"
    )
    verb.add_argument(
        "--share", metavar="P", type=float, default=0.5, help="of each predicted class, the surest (default: 0.5)"
    )
    verb.add_argument(
        "--min_confidence",
        metavar="P",
        type=float,
        default=0.0,
        help="least calibrated probability besides (default: 0, as a limit takes more from some classes than others)",
    )
    for name, what in (("text_column", "texts"), ("pair_column", "second texts")):
        verb.add_argument(f"--{name}", metavar="NAME", help=f"column of the {what} in FILE (default: the run's)")
    verb.add_argument("--json", action="store_true", help="print one JSON object")
    verb.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    require_run(arguments.workdir)
    from zoo import files
    from zoo.adaptation import pseudo_labels

    out = files.absolute(arguments.out)
    pseudo_labels.check(arguments.share, arguments.min_confidence)
    if out.resolve() == files.absolute(arguments.file).resolve():
        raise BadInput(f"--out is {out}: that is the file to read; choose another")
    command = pseudo_labels.command(arguments.workdir, out)
    found = pseudo_labels.collect(
        arguments.workdir,
        lambda predictor: _examples(predictor, arguments, out),
        arguments.share,
        arguments.min_confidence,
    )
    pseudo_labels.write(out, found)
    _print(found, out, command, arguments.json)
    return 0


def _examples(predictor: Any, arguments: argparse.Namespace, out: Path) -> Any:
    from zoo.adaptation import pseudo_labels as feedback
    from zoo.predict.predictors.text_classifier import TextClassifier

    texts = isinstance(predictor, TextClassifier)
    # Before the minutes that the answers may take.
    feedback.check_path(out, texts)
    given = {name: getattr(arguments, name) for name in ("text_column", "pair_column") if getattr(arguments, name)}
    if given and not texts:
        raise BadInput(f"--{next(iter(given))} is for runs on texts; {arguments.workdir} is on arrays: leave it out")
    if "pair_column" in given and not predictor.pair_column:
        raise BadInput("--pair_column: the run is on single texts; expected --text_column alone")
    return predictor.read(arguments.file, **given)


def _print(found: "Feedback", out: Path, command: str, as_json: bool) -> None:
    from zoo.adaptation import pseudo_labels as feedback

    taken = {name: found.confidences[found.labels == label] for label, name in enumerate(found.classes)}
    counts = {
        name: {"predicted": int(predicted), "taken": len(sure), "least_confidence": float(sure.min(initial=1.0))}
        for (name, sure), predicted in zip(taken.items(), found.predicted)
    }
    if as_json:
        left_out = {f"left_out_{name}": count for name, count in found.left_out._asdict().items()}
        print(json.dumps({"file": str(out), "classes": counts, **left_out, "command": command}))
        return
    print(f"left out: {feedback.describe(found.left_out)}")
    for name, count in counts.items():
        least = f", confidence {count['least_confidence']:.4f} or more" if count["taken"] else ""
        print(f"{name}: {count['predicted']:,} predicted, {count['taken']:,} taken{least}")
    print(f"wrote {len(found.labels):,} examples to {out}; a further round:")
    print(command)
