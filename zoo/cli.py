"""The command `zoo`: what to do with a finished run.

Only what parses the command line is imported here: TensorFlow takes seconds, and `zoo --help` must not.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zoo
from zoo.errors import BadInput, ZooError

if TYPE_CHECKING:
    import numpy as np

    from zoo.predict.predictor import Predictor

_EXIT_CODES = """\
exit codes: 0 done, 2 bad input, 3 not finite, 4 no checkpoint can be read, 128 + n stopped by signal n"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: without the program's name; None for those of the process.

    Returns:
        The exit code; what went wrong stands in one line on stderr.
    """
    arguments = _parser().parse_args(argv)
    try:
        code = arguments.run(arguments)
        # What is still buffered may meet a full disk or a closed pipe, too.
        sys.stdout.flush()
        return code
    except ZooError as error:
        return _fail(error)
    except BrokenPipeError:
        _drop_unwritable()
        return 128 + signal.SIGPIPE
    except OSError as error:
        _drop_unwritable()
        return _fail(BadInput(str(error)))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zoo", description="Use the models that the experiments train.", epilog=_EXIT_CODES, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"zoo {zoo.__version__}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_predict(verbs)
    _add_evaluate(verbs)
    return parser


def _add_predict(verbs: Any) -> None:
    about = "Print the most probable class of each example."
    verb = verbs.add_parser("predict", help=about, description=about, epilog=_EXIT_CODES, allow_abbrev=False)
    verb.add_argument("workdir", metavar="WORKDIR", help="folder of a finished run")
    verb.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="a .npy or .npz file with one example or a stack of them, a .png image, or - to read stdin, line by line: "
        'a JSON list or {"x": [...], "id": ...} in, one JSON object out',
    )
    verb.add_argument("--json", action="store_true", help="print one JSON object per example")
    verb.add_argument("--top", metavar="K", type=_positive, default=1, help="print the K most probable classes")
    verb.set_defaults(run=_predict)


def _add_evaluate(verbs: Any) -> None:
    about = "Print loss and accuracy on the test split; the last line is a JSON object."
    verb = verbs.add_parser("evaluate", help=about, description=about, epilog=_EXIT_CODES, allow_abbrev=False)
    verb.add_argument("workdir", metavar="WORKDIR", help="folder of a finished run")
    verb.add_argument(
        "--dataset",
        metavar="NAME_OR_FILE",
        help="another data set: the test split of a named one, or all of a .npz or .csv file or a folder of x.npy and "
        "y.npy (default: the test split of what the run was trained on)",
    )
    verb.add_argument("--json", action="store_true", help="print the JSON object only")
    verb.set_defaults(run=_evaluate)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _predict(arguments: argparse.Namespace) -> int:
    _require_run(arguments.workdir)
    from zoo.predict.predictor import load

    predictor, code = load(arguments.workdir), 0
    for name in arguments.files:
        if name == "-":
            code = max(code, _predict_stream(predictor, arguments.top))
            continue
        try:
            _predict_file(predictor, name, arguments)
        except ZooError as error:
            code = max(code, _fail(error))
    return code


def _predict_file(predictor: "Predictor", name: str, arguments: argparse.Namespace) -> None:
    from zoo.predict import inputs

    examples = inputs.read(name, predictor.shape, predictor.dtype)
    for index, row in enumerate(predictor.probabilities(examples)):
        if arguments.json:
            print(json.dumps({"file": name, "index": index, **_answer(predictor, row, arguments.top)}))
        else:
            ranked = (f"{label}\t{probability:.4f}" for label, probability in _ranked(predictor, row, arguments.top))
            print(f"{name}[{index}]" if len(examples) > 1 else name, *ranked, sep="\t")


def _predict_stream(predictor: "Predictor", top: int) -> int:
    """Answers each line of stdin as it comes; the exit code says whether one of them was bad."""
    from zoo.predict import inputs

    code = 0
    for line in inputs.lines(sys.stdin.buffer, predictor.shape, predictor.dtype):
        answer = {"line": line.number} if line.id is None else {"line": line.number, "id": line.id}
        try:
            if line.examples is None:
                raise BadInput(line.error)
            answer |= _answer(predictor, predictor.probabilities(line.examples)[0], top)
        except ZooError as error:
            answer["error"] = str(error)
            code = max(code, error.exit_code)
        print(json.dumps(answer), flush=True)
    return code


def _answer(predictor: "Predictor", row: "np.ndarray", top: int) -> dict[str, Any]:
    ranked = [{"class": label, "probability": probability} for label, probability in _ranked(predictor, row, top)]
    return ranked[0] if top == 1 else {**ranked[0], "top": ranked}


def _ranked(predictor: "Predictor", row: "np.ndarray", top: int) -> list[tuple[str, float]]:
    order = (-row).argsort(kind="stable")[:top]
    return [(predictor.classes[label], float(row[label])) for label in order]


def _evaluate(arguments: argparse.Namespace) -> int:
    _require_run(arguments.workdir)
    from zoo.predict.predictor import evaluate

    result = evaluate(arguments.workdir, arguments.dataset)
    if not arguments.json:
        print(f"examples  {result['examples']:,}")
        print(f"loss      {result['loss']:.4f}")
        interval = ""
        if "accuracy_low" in result:
            interval = f" (95 % interval: {result['accuracy_low']:.4f} to {result['accuracy_high']:.4f})"
        print(f"accuracy  {result['accuracy']:.4f}{interval}")
    print(json.dumps(result))
    return 0


def _require_run(workdir: str) -> None:
    """Refuses a wrong folder at once, not after the seconds that TensorFlow takes."""
    from zoo import workdir as folders

    folders.read_json(Path(workdir).expanduser(), folders.ABOUT)


def _fail(error: ZooError) -> int:
    print(f"zoo: {error}", file=sys.stderr, flush=True)
    return error.exit_code


def _drop_unwritable() -> None:
    """Where stdout is closed or full, what is still buffered must not fail once more when Python exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
