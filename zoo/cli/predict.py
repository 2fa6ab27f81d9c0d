"""`zoo predict`."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from zoo import strict_json
from zoo.cli import file_flags, refine_flags
from zoo.cli.parser import add_verb, fail, positive, require_run
from zoo.errors import BadInput, ZooError

if TYPE_CHECKING:
    from zoo.cli.predict_output import Answers
    from zoo.predict.predictors.predictor import Predictor


def add(verbs: Any) -> None:
    """`zoo predict WORKDIR FILE`."""
    about = "Print a run's prediction for each example."
    verb = add_verb(verbs, "predict", about, "A class, a value, tags, or words for the gaps of a text.")
    verb.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="a .npy or .npz file with one example or a stack of examples, a .png or .jpg image, a .csv, .tsv, "
        ".parquet or .xlsx with the columns of the training table (others are ignored), or - to read stdin, line by "
        'line: a JSON list or {"x": [...], "id": ...} in, one JSON object out. For a run on texts: a .txt with one per '
        'line, a .csv, .tsv, .jsonl, .parquet or .xlsx, or - for lines of text or {"text": "...", "pair": "...", '
        '"id": ...}. For a tagger also {"words": [...]} in a .jsonl or in lines, and a CoNLL file, which is one of any '
        "other name",
    )
    verb.add_argument(
        "--text", metavar="TEXT", action="append", default=[], help="a text, for a run on texts; may be repeated"
    )
    verb.add_argument(
        "--pair",
        metavar="TEXT",
        action="append",
        default=[],
        help="the second text, for a run on pairs; one for each --text",
    )
    for name, content in (("text_column", "texts"), ("pair_column", "second texts")):
        verb.add_argument(f"--{name}", metavar="NAME", help=f"column of the {content} in a file (default: the run's)")
    verb.add_argument(
        "--token_column",
        metavar="N",
        type=int,
        help="for a tagger: FILE is in CoNLL format, whatever its name, with the words in column N, 1 for the first, "
        "-1 for the last (default: a file that is not .txt, .csv, .tsv or .jsonl, with the run's column)",
    )
    verb.add_argument(
        "--conll",
        action="store_true",
        help="for a tagger: print a line per word with its columns in FILE and the predicted tag, an empty line after "
        "each sentence",
    )
    verb.add_argument(
        "--explain", action="store_true", help="print how much each token of a text contributes to the predicted class"
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
        help="fill the gaps of a text in N rounds, the least confident ones again each time (default: 1)",
    )
    verb.add_argument(
        "--runtime",
        choices=("auto", "compiled", "litert"),
        default="auto",
        help="for single examples of a classifier: litert converts the model once, which takes seconds; auto uses an "
        "earlier conversion that agrees with the model (default: auto)",
    )
    verb.add_argument(
        "--out",
        metavar="FILE",
        help="a .csv to write instead: the columns of FILE that the model does not read (an id, say), the prediction, "
        "and the probability of each class",
    )
    verb.add_argument(
        "--interval",
        metavar="P",
        type=float,
        help="for a regression: also print an interval that contains the value with probability P, found by split "
        "conformal prediction on the run's validation split",
    )
    file_flags.add(verb, of_run=True)
    refine_flags.add_flags(verb)
    verb.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    require_run(arguments.workdir)
    if not arguments.files and not arguments.text and not arguments.pair:
        raise BadInput("nothing to predict: expected FILE, --text, or - for stdin")
    flags = file_flags.given(arguments)
    if flags and not arguments.files:
        raise BadInput(f"--{next(iter(flags))} without FILE: it says how a file is written; leave it out")
    if arguments.html and "-" in arguments.files:
        raise BadInput("--html is of whole files: expected no - beside it")
    refine_flags.check(arguments)
    out = None
    if arguments.out:
        from zoo.cli import predict_table

        out = predict_table.check(arguments)
    from zoo.cli.predict_output import Answers, check
    from zoo.predict.attribution import html
    from zoo.predict.predictors.loading import load

    predictor = load(arguments.workdir, arguments.runtime)
    check(predictor, arguments.workdir, arguments)
    page = html.check(arguments.html) if arguments.html else None
    session = None
    if any(getattr(arguments, name) for name in refine_flags.SESSION):
        from zoo.cli.predict_session import Session

        session = Session(predictor, arguments)
    forms = {name: file_flags.of_file(arguments, predictor, name) for name in arguments.files}
    explain = arguments.explain or page is not None
    if arguments.rounds > 1:
        from zoo.predict.predictors.mask_predict import MaskPredict

        predictor = MaskPredict(predictor, arguments.rounds)
    if arguments.interval is not None:
        from zoo.predict.calibration import prediction_intervals
        from zoo.predict.evaluation import held_out

        half = prediction_intervals.half_width(held_out.value_errors(arguments.workdir, predictor), arguments.interval)
        predictor = prediction_intervals.IntervalPredict(predictor, half)
    if out is not None:
        from zoo.cli import predict_table

        predict_table.write(out, predictor, arguments.files[0], _columns(arguments, forms[arguments.files[0]]))
        return 0
    answers, code = Answers(predictor, arguments.top, arguments.json, explain, page, session, arguments.conll), 0
    if arguments.text or arguments.pair:
        answers.texts(arguments.text, arguments.pair)
    for name in arguments.files:
        if name == "-":
            code = max(code, _stream(predictor, answers))
            continue
        try:
            answers.file(name, predictor.read(name, **_columns(arguments, forms[name])))
        except ZooError as error:
            code = max(code, fail(error))
    answers.close()
    if session is not None:
        session.close()
    return code


def _columns(arguments: argparse.Namespace, form: Any) -> dict[str, Any]:
    """Names of columns, and how the file is written, for `Predictor.read`."""
    columns = {name: getattr(arguments, name) for name in ("text_column", "pair_column", "token_column")}
    columns["form"] = form
    return {name: value for name, value in columns.items() if value not in (None, "")}


def _stream(predictor: "Predictor", answers: "Answers") -> int:
    """Predicts each line of stdin as it arrives; returns the highest exit code of its errors."""
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
        print(strict_json.dumps(answer), flush=True)
    return code
