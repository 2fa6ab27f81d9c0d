"""What `zoo predict` prints of examples, and the page that it may leave."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.cli.refine_flags import Session
from zoo.errors import BadInput
from zoo.predict.attribution import html as pages
from zoo.predict.attribution import terminal
from zoo.predict.attribution.integrated_gradients import Explainer, Explanation
from zoo.predict.predictors import array_inputs, text_inputs
from zoo.predict.predictors.array_classifier import ArrayClassifier
from zoo.predict.predictors.fill_mask import FillMask
from zoo.predict.predictors.printable import short
from zoo.predict.predictors.tagger import Tagger
from zoo.predict.predictors.text_classifier import TextClassifier, TextRegressor
from zoo.predict.predictors.text_inputs import Example


class Answer(NamedTuple):
    """What is said of one example: as JSON, in the columns of a line, and perhaps why."""

    said: dict[str, Any]
    columns: list[str]
    why: Explanation | None = None


class Answers:
    """Predicts and prints, an example at a time where it is explained.

    Args:
        predictor: as `predictor.load` gives it.
        top: how many classes, or words for a gap, are printed.
        as_json: whether an answer is a JSON object.
        explain: whether texts are explained.
        page: where an HTML page of the explanations goes, or None.
        session: what gives the probabilities in the place of the predictor, and may withhold answers; or None.
    """

    def __init__(
        self,
        predictor: ArrayClassifier | TextClassifier | TextRegressor | Tagger | FillMask,
        top: int,
        as_json: bool,
        explain: bool,
        page: Path | None,
        session: Session | None = None,
    ):
        self._session = session
        self._predictor, self._top, self._as_json, self._page = predictor, top, as_json, page
        self._explainer = Explainer(predictor) if explain else None
        self._explained: list[tuple[str, Explanation]] = []

    def texts(self, texts: Sequence[str], second: Sequence[str] = ()) -> None:
        """Prints the answers to texts of the command line, or to pairs of them.

        Raises:
            BadInput: a second text is missing or unexpected, or a text is none that can be read.
        """
        examples = text_inputs.given(texts, second, bool(self._predictor.pair_column))
        for number, (example, answer) in enumerate(zip(examples, self._found(examples)), 1):
            parts = [example] if isinstance(example, str) else example
            self._print(" | ".join(map(short, parts)), dict(zip(("text", "pair"), parts)), answer, f"text {number}")

    def file(self, name: str, examples: np.ndarray | Sequence[Example]) -> None:
        """Prints the answers to a file's examples."""
        for index, answer in enumerate(self._found(examples)):
            label = f"{name}[{index}]" if len(examples) > 1 else name
            self._print(label, {"file": name, "index": index}, answer, label)

    def answer(self, examples: np.ndarray | Sequence[Example]) -> dict[str, Any]:
        """The answer to one example of a stream, `[1, ...]`."""
        [found] = self._found(examples)
        return found.said

    def close(self) -> None:
        """Writes the page.

        Raises:
            BadInput: it cannot be written.
        """
        if self._page is not None and self._explained:
            pages.write(self._page, self._explained)

    def _found(self, examples) -> Iterator[Answer]:
        if self._explainer is not None:
            for text in examples:
                [found] = self._explainer.explain([text])
                classified = self._classified(found.probabilities)
                yield Answer(classified.said | terminal.as_json(found), classified.columns, found)
        elif isinstance(self._predictor, (ArrayClassifier, TextClassifier)):
            yield from map(self._classified, (self._session or self._predictor).probabilities(examples))
        else:
            yield from (Answer(*found) for found in self._predictor.answers(examples, self._top))

    def _print(self, label: str, about: dict[str, Any], answer: Answer, title: str) -> None:
        why = answer.why
        if self._as_json:
            print(json.dumps({**about, **answer.said}))
        else:
            print(label, *answer.columns, sep="\t")
            if why is not None:
                # https://no-color.org
                colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
                print(f"  {terminal.coloured(why) if colours else terminal.plain(why)}")
                print(f"  {terminal.account(why)}")
        if why is not None and self._page is not None:
            self._explained.append((title, why))

    def _classified(self, row: np.ndarray) -> Answer:
        """Of probabilities `[classes]`."""
        ranked = self._ranked(row)
        top = [{"class": name, "probability": probability} for name, probability in ranked]
        said = top[0] if self._top == 1 else {**top[0], "top": top}
        columns = [f"{name}\t{probability:.4f}" for name, probability in ranked]
        abstention = self._session.abstention if self._session else None
        if abstention is None:
            return Answer(said, columns)
        answered = bool(abstention.answers(row.max()))
        return Answer(said | {"answered": answered}, columns if answered else ["abstains", *columns])

    def _ranked(self, row: np.ndarray) -> list[tuple[str, float]]:
        order = (-row).argsort(kind="stable")[: self._top]
        return [(self._predictor.classes[label], float(row[label])) for label in order]


def check(
    predictor: ArrayClassifier | TextClassifier | TextRegressor | Tagger | FillMask, workdir: str, flags: Any
) -> None:
    """Refuses flags that are of no use for what a run has left.

    Args:
        predictor: of the run.
        workdir: of the run, for errors.
        flags: the parsed command line.

    Raises:
        BadInput: names the first such flag.
    """
    if flags.rounds > 1 and not isinstance(predictor, FillMask):
        raise BadInput(f"--rounds is for the gaps of a pretrained encoder; {workdir} holds another model: leave it out")
    if isinstance(predictor, ArrayClassifier):
        for name in ("text", "pair", "text_column", "pair_column", "explain", "html"):
            if getattr(flags, name):
                raise BadInput(
                    f"--{name} is for runs on texts; {workdir} holds a model for arrays of shape {predictor.shape}: "
                    f"expected {', '.join(array_inputs.SUFFIXES)} or -"
                )
        return
    if flags.pair_column and not predictor.pair_column:
        raise BadInput(f"--pair_column is for runs on pairs; {workdir} is on single texts: leave the flag out")
    if (flags.explain or flags.html) and (not isinstance(predictor, TextClassifier) or predictor.pair_column):
        name = "explain" if flags.explain else "html"
        raise BadInput(
            f"--{name} is for classifiers of single texts; {workdir} holds another model: leave the flag out"
        )
    if flags.top > 1 and isinstance(predictor, (TextRegressor, Tagger)):
        raise BadInput(f"--top is for classes and gaps; {workdir} holds another model: leave the flag out")
