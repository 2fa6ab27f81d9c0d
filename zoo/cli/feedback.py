"""`zoo feedback`: pseudo-labels, a classifier's most confident predictions as training data for a further round."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import strict_json
from zoo.cli.parser import add_verb, require_run
from zoo.errors import BadInput
from zoo.names import escaped

if TYPE_CHECKING:
    from zoo.adaptation.pseudo_labels import Feedback


def add(verbs: Any) -> None:
    """`zoo feedback WORKDIR FILE --out pseudo.csv`."""
    verb = add_verb(
        verbs,
        "feedback",
        "Write pseudo-labels, confident predictions to train on.",
        "Unlabelled examples are predicted; the same share of each predicted class is taken, so that no class takes "
        "over. Examples of the run's own data are left out and counted. The command of the further training round is "
        "printed: it learns from the run's training split and the new examples.",
    )
    verb.add_argument(
        "file",
        metavar="FILE",
        help="unlabelled examples: .npy or .npz, for a run on texts .txt, .csv, .tsv or .jsonl",
    )
    verb.add_argument(
        "--out", metavar="FILE", required=True, help="file to write: .npz, for texts .csv, .tsv or .jsonl"
    )
    verb.add_argument(
        "--share",
        metavar="P",
        type=float,
        default=0.5,
        help="share of each predicted class to take, the most confident first (default: 0.5)",
    )
    verb.add_argument(
        "--min_confidence",
        metavar="P",
        type=float,
        default=0.0,
        help="lower limit of the calibrated probability, in addition (default: 0, as a limit removes more of some "
        "classes than of others)",
    )
    for name, content in (("text_column", "texts"), ("pair_column", "second texts")):
        verb.add_argument(f"--{name}", metavar="NAME", help=f"column of the {content} in FILE (default: the run's)")
    verb.add_argument("--json", action="store_true", help="print one JSON object")
    verb.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    require_run(arguments.workdir)
    from zoo import files
    from zoo.adaptation import pseudo_labels

    out = files.absolute(arguments.out)
    pseudo_labels.check(arguments.share, arguments.min_confidence)
    if out.resolve() == files.absolute(arguments.file).resolve():
        raise BadInput(f"--out is {out}: that is the input file; choose another")
    command = pseudo_labels.command(arguments.workdir, out)
    feedback = pseudo_labels.collect(
        arguments.workdir,
        lambda predictor: _examples(predictor, arguments, out),
        arguments.share,
        arguments.min_confidence,
    )
    pseudo_labels.write(out, feedback)
    _print(feedback, out, command, arguments.json)
    return 0


def _examples(predictor: Any, arguments: argparse.Namespace, out: Path) -> Any:
    from zoo.adaptation import pseudo_labels

    is_text = predictor.reads_text
    # Before the predictions, which may take minutes.
    pseudo_labels.check_path(out, is_text)
    columns = {name: getattr(arguments, name) for name in ("text_column", "pair_column") if getattr(arguments, name)}
    if columns and not is_text:
        raise BadInput(f"--{next(iter(columns))} is for runs on texts; {arguments.workdir} is on arrays: leave it out")
    if "pair_column" in columns and not predictor.pair_column:
        raise BadInput("--pair_column: the run is on single texts; expected --text_column alone")
    return predictor.read(arguments.file, **columns)


def _print(feedback: "Feedback", out: Path, command: str, as_json: bool) -> None:
    from zoo.adaptation import pseudo_labels

    taken = {name: feedback.confidences[feedback.labels == label] for label, name in enumerate(feedback.classes)}
    counts = {
        name: {
            "predicted": int(predicted),
            "taken": len(confidences),
            "least_confidence": float(confidences.min(initial=1.0)),
        }
        for (name, confidences), predicted in zip(taken.items(), feedback.predicted)
    }
    if as_json:
        left_out = {f"left_out_{name}": count for name, count in feedback.left_out._asdict().items()}
        print(strict_json.dumps({"file": str(out), "classes": counts, **left_out, "command": command}))
        return
    print(f"left out: {pseudo_labels.describe(feedback.left_out)}")
    for name, count in counts.items():
        least = f", confidence {count['least_confidence']:.4f} or more" if count["taken"] else ""
        print(f"{escaped(name)}: {count['predicted']:,} predicted, {count['taken']:,} taken{least}")
    print(f"wrote {len(feedback.labels):,} examples to {out}; a further round:")
    print(command)
