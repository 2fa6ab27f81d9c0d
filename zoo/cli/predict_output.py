"""Output of `zoo predict`: lines or JSON on stdout, and the HTML page of explanations."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo import strict_json
from zoo.cli.predict_formats import RANKED, Formatted, formatted
from zoo.errors import BadInput
from zoo.names import escaped
from zoo.predict.attribution import html as pages
from zoo.predict.attribution import terminal
from zoo.predict.attribution.integrated_gradients import Explainer, Explanation
from zoo.predict.predictors import array_inputs, text_inputs
from zoo.predict.predictors.predictor import Examples, Predictor
from zoo.predict.predictors.printable import short

if TYPE_CHECKING:
    from zoo.cli.predict_session import Marked, Session


class Answer(NamedTuple):
    """A formatted prediction, and its explanation if it was asked for."""

    formatted: Formatted
    explanation: Explanation | None = None


class Answers:
    """Predicts and prints, one example at a time where predictions are explained.

    Args:
        predictor: predictor of the run.
        top: how many classes, or words per gap, are printed.
        as_json: whether to print JSON objects instead of lines.
        explain: whether to explain the predictions.
        page: file for an HTML page of the explanations, or None.
        session: gives the probabilities instead of the predictor, with what is promised of them; or None.
        as_conll: whether to print the words of a tagger with their tags, a line each.
    """

    def __init__(
        self,
        predictor: Predictor,
        top: int,
        as_json: bool,
        explain: bool,
        page: Path | None,
        session: "Session | None" = None,
        as_conll: bool = False,
    ):
        self._session, self._as_conll = session, as_conll
        self._predictor, self._top, self._as_json, self._page = predictor, top, as_json, page
        self._explainer = Explainer(predictor) if explain else None
        self._explained: list[tuple[str, Explanation]] = []

    def texts(self, texts: list[str], second: list[str]) -> None:
        """Prints predictions for the texts of --text, or for pairs with those of --pair.

        Raises:
            BadInput: a second text is missing or unexpected, or a text is not Unicode.
        """
        examples = text_inputs.from_flags(texts, second, bool(self._predictor.pair_column))
        for number, (example, answer) in enumerate(zip(examples, self._answers(examples)), 1):
            parts = [example] if isinstance(example, str) else example
            self._print(" | ".join(map(short, parts)), dict(zip(("text", "pair"), parts)), answer, f"text {number}")

    def file(self, name: str, examples: Examples) -> None:
        """Prints predictions for the examples of a file."""
        shown = escaped(name)
        for index, answer in enumerate(self._answers(examples)):
            label = f"{shown}[{index}]" if len(examples) > 1 else shown
            self._print(label, {"file": name, "index": index}, answer, label)

    def answer(self, examples: Examples) -> dict[str, Any]:
        """The JSON object for one example of a stream, `[1, ...]`."""
        [answer] = self._answers(examples)
        return answer.formatted.json

    def close(self) -> None:
        """Writes the HTML page.

        Raises:
            BadInput: it cannot be written.
        """
        if self._page is not None and self._explained:
            pages.write(self._page, self._explained)

    def _answers(self, examples: Examples) -> Iterator[Answer]:
        if self._explainer is not None:
            for text in examples:
                [explanation] = self._explainer.explain([text])
                answer = self._explained_answer(text, explanation)
                yield Answer(answer._replace(json=answer.json | terminal.as_json(explanation)), explanation)
        elif self._session is not None:
            yield from (Answer(self._marked(each)) for each in self._session.answers(examples))
        else:
            predictions = self._predictor.predict(examples, self._top)
            yield from (Answer(formatted(self._predictor, each, self._top)) for each in predictions)

    def _explained_answer(self, text: Any, explanation: Explanation) -> Formatted:
        if self._session is None:
            return formatted(self._predictor, explanation.probabilities, self._top)
        [marked] = self._session.answers([text])
        return self._marked(marked._replace(probabilities=explanation.probabilities))

    def _marked(self, marked: "Marked") -> Formatted:
        """A prediction with its promises: `abstains` comes first, the set and what the promise rests on last."""
        json, columns, _ = formatted(self._predictor, marked.probabilities, self._top)
        if marked.answered is not None:
            json = json | {"answered": marked.answered}
            columns = columns if marked.answered else ["abstains", *columns]
        if marked.labels is not None:
            names = [self._predictor.classes[label] for label in marked.labels]
            json = json | {"prediction_set": names}
            columns = [*columns, f"{{{', '.join(map(escaped, names))}}}"]
        if marked.promise is not None:
            json = json | {"promise": marked.promise}
            columns = [*columns, f"promise: {marked.promise}"]
        return Formatted(json, columns)

    def _print(self, label: str, origin: dict[str, Any], answer: Answer, title: str) -> None:
        explanation = answer.explanation
        if self._as_json:
            print(strict_json.dumps({**origin, **answer.formatted.json}))
        elif self._as_conll:
            print(answer.formatted.conll)
        else:
            print(label, *answer.formatted.columns, sep="\t")
            if explanation is not None:
                # https://no-color.org
                colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
                print(f"  {terminal.coloured(explanation) if colours else terminal.plain(explanation)}")
                print(f"  {terminal.account(explanation)}")
        if explanation is not None and self._page is not None:
            self._explained.append((title, explanation))


def check(predictor: Predictor, workdir: str, flags: Any) -> None:
    """Refuses flags that do not apply to the run's task.

    Args:
        predictor: predictor of the run.
        workdir: folder of the run, for errors.
        flags: the parsed command line.

    Raises:
        BadInput: names the first such flag.
    """
    if flags.rounds > 1 and predictor.task != "pretraining":
        raise BadInput(f"--rounds is for the gaps of a pretrained encoder; {workdir} holds another model: leave it out")
    if predictor.task != "tagging":
        for name in ("conll", "token_column"):
            if getattr(flags, name):
                raise BadInput(f"--{name} is for taggers; {workdir} holds another model: leave the flag out")
    if flags.conll and (flags.json or "-" in flags.files):
        raise BadInput("--conll prints lines of words, --json and the lines of - are JSON: expected one of the two")
    if flags.top > 1 and predictor.task not in RANKED:
        raise BadInput(f"--top is for classes and gaps; {workdir} holds another model: leave the flag out")
    if not predictor.reads_text:
        for name in ("text", "pair", "text_column", "pair_column", "explain", "html"):
            if getattr(flags, name):
                raise BadInput(
                    f"--{name} is for runs on texts; {workdir} holds a model for arrays of shape {predictor.shape}: "
                    f"expected {', '.join(array_inputs.SUFFIXES)} or -"
                )
        return
    if flags.pair_column and not predictor.pair_column:
        raise BadInput(f"--pair_column is for runs on pairs; {workdir} is on single texts: leave the flag out")
    if (flags.explain or flags.html) and (predictor.task != "classification" or predictor.pair_column):
        name = "explain" if flags.explain else "html"
        raise BadInput(
            f"--{name} is for classifiers of single texts; {workdir} holds another model: leave the flag out"
        )
