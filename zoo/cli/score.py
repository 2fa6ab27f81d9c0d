"""`zoo score`: log-probability and perplexity of texts under a language model."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import strict_json
from zoo.cli import score_dynamic
from zoo.cli.parser import add_verb, fail, positive, require_run, tell
from zoo.errors import BadInput, ZooError

if TYPE_CHECKING:
    from zoo.predict.language_models.language_model import LanguageModel
    from zoo.predict.language_models.perplexity import TextScore

# Texts of a file that are scored before the first score is printed.
_AT_ONCE = 256


def add(verbs: Any) -> None:
    """`zoo score WORKDIR --text "..."`, and with --dynamic `zoo score WORKDIR FILE`."""
    verb = add_verb(
        verbs,
        "score",
        "Print perplexities of texts under a language model.",
        "The scores are log P (natural logarithm) of each token given those before it, their sum, perplexity and bits "
        "per byte. The first token is given, not predicted: the models have no token for the beginning of a text.",
    )
    verb.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="a .txt with a text in each line (blank lines, and those of one token, are skipped), a .csv, .tsv or "
        '.jsonl, or - for lines of text or {"text": "...", "id": ...} on stdin, each answered by a JSON object',
    )
    verb.add_argument("--text", metavar="TEXT", action="append", default=[], help="a text; may be repeated")
    verb.add_argument("--text_column", metavar="NAME", help="column of the texts in a file (default: the run's)")
    verb.add_argument("--whole", action="store_true", help="score a .txt as one text")
    verb.add_argument(
        "--stride",
        metavar="N",
        type=positive,
        help="a text longer than a Transformer's context is read in windows, each N tokens after the one before; "
        "each token is predicted once, with at least context - N tokens before it (default: half the context; 1: the "
        "most exact and the slowest). An LSTM needs no windows",
    )
    verb.add_argument("--json", action="store_true", help="print one JSON object per text, with its tokens")
    score_dynamic.add(verb)
    verb.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    require_run(arguments.workdir)
    if not arguments.files and not arguments.text:
        raise BadInput("nothing to score: expected FILE, --text, or - for stdin")
    score_dynamic.check(arguments)
    from zoo.predict.language_models.language_model import load

    model = load(arguments.workdir)
    # First, so that a bad stride is refused before any output.
    model.stride(arguments.stride)
    if arguments.dynamic:
        return score_dynamic.run(model, arguments)
    code = _texts(model, arguments, "", arguments.text)
    for name in arguments.files:
        if name == "-":
            code = max(code, _stream(model, arguments))
            continue
        try:
            texts = _read(model, name, arguments)
        except ZooError as error:
            code = max(code, fail(error))
        else:
            code = max(code, _texts(model, arguments, name, texts))
    return code


def _read(model: "LanguageModel", name: str, arguments: argparse.Namespace) -> list[str]:
    from zoo.data.datasets import text_files
    from zoo.predict.predictors import text_inputs

    if not arguments.whole:
        return text_inputs.read(name, arguments.text_column or model.text_column)
    if not name.endswith(".txt"):
        raise BadInput(f"{name}: --whole is for .txt files; expected one, or no --whole")
    return [text_files.content(Path(name))]


def _texts(model: "LanguageModel", arguments: argparse.Namespace, file: str, texts: Sequence[str]) -> int:
    """Prints the scores of a file's texts, or of the command line's where `file` is ""; returns the exit code."""
    from zoo.data.datasets import delimited

    code, all_scores, skipped = 0, [], 0
    are_lines = bool(file) and delimited.kind(Path(file)) == ".txt" and not arguments.whole
    for first in range(0, len(texts), _AT_ONCE):
        good = []
        for index in range(first, min(first + _AT_ONCE, len(texts))):
            try:
                tokens = len(model.ids(texts[index], least=0 if are_lines else 2))
                # A line that is blank, or has a single token, is no mistake: there is nothing to predict.
                if are_lines and (tokens < 2 or not texts[index].strip()):
                    skipped += bool(texts[index])
                else:
                    good.append(index)
            except ZooError as error:
                place = f"{file}[{index}]" if file else f"text {index + 1}"
                code = max(code, fail(type(error)(f"{place}: {error}")))
        scores = model.score([texts[index] for index in good], arguments.stride)
        all_scores += scores
        for index, score in zip(good, scores):
            if arguments.json:
                about = {"file": file, "index": index} if file else {"text": texts[index]}
                print(strict_json.dumps(about | _object(model, score, arguments.stride)))
            else:
                _print(file and f"{file}[{index}]", texts[index], score)
    if skipped:
        tell([f"{file}: {skipped} line{'s' * (skipped != 1)} skipped, blank or of one token: nothing to predict"])
    if len(all_scores) > 1 and not arguments.json:
        print(f"{file or 'together'}: {len(all_scores)} texts\t{_numbers(all_scores)}")
    return code


def _stream(model: "LanguageModel", arguments: argparse.Namespace) -> int:
    """Answers each line of stdin at once; returns the exit code of the worst line."""
    from zoo.predict.predictors import text_inputs

    code = 0
    for line in text_inputs.lines(sys.stdin.buffer):
        answer = {"line": line.number} if line.id is None else {"line": line.number, "id": line.id}
        try:
            if line.examples is None:
                raise BadInput(line.error)
            [score] = model.score(line.examples, arguments.stride)
            answer |= _object(model, score, arguments.stride)
        except ZooError as error:
            answer["error"] = str(error)
            code = max(code, error.exit_code)
        print(strict_json.dumps(answer), flush=True)
    return code


def _object(model: "LanguageModel", score: "TextScore", stride: int | None) -> dict[str, Any]:
    first, *predicted = score.tokens
    values = score.log_probabilities.tolist()
    answer = {
        "log_probability": score.log_probability,
        "perplexity": score.perplexity,
        "bits_per_byte": score.bits_per_byte,
        "predicted": len(predicted),
        "unknown": score.unknown,
        "context": model.context,
        "stride": model.stride(stride),
        "given": first,
        "tokens": [{"token": token, "log_probability": value} for token, value in zip(predicted, values)],
    }
    # An LSTM has no context, and some tokenizers do not tell the bytes.
    return {name: value for name, value in answer.items() if value is not None}


def _print(label: str, text: str, score: "TextScore") -> None:
    """Prints one line; for a text of the command line, which has no label, also one for each token."""
    from zoo.predict.predictors import printable

    if not label:
        first, *predicted = score.tokens
        print(f"{first!r}\tgiven")
        for token, value in zip(predicted, score.log_probabilities):
            print(f"{token!r}\t{value:.4f}")
    unknown = f"\t{score.unknown} unknown tokens" if score.unknown else ""
    print(f"{label or printable.short(text)}\t{_numbers([score])}{unknown}")


def _numbers(scores: Sequence["TextScore"]) -> str:
    from zoo.predict.language_models import perplexity

    total, bits = sum(score.log_probability for score in scores), perplexity.bits_per_byte(scores)
    line = f"log P {total:.4f}\tperplexity {perplexity.perplexity(scores):.4f}"
    return line if bits is None else f"{line}\tbits per byte {bits:.4f}"
