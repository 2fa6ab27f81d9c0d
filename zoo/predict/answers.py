"""What `zoo predict` prints of examples, and the page that it may leave."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.predict import page as pages
from zoo.predict import shown
from zoo.predict.explain import Explainer, Explanation
from zoo.predict.predictor import Predictor
from zoo.predict.texts import TextPredictor

# Characters of a text that stand for it in a line.
_SHORT = 60


class Answers:
    """Predicts and prints, an example at a time where it is explained.

    Args:
        predictor: of arrays or texts.
        top: how many classes are printed.
        as_json: whether an answer is a JSON object.
        explain: whether texts are explained.
        page: where an HTML page of the explanations goes, or None.
    """

    def __init__(self, predictor: Predictor | TextPredictor, top: int, as_json: bool, explain: bool, page: Path | None):
        self._predictor, self._top, self._as_json, self._page = predictor, top, as_json, page
        self._explainer = Explainer(predictor) if explain else None
        self._explained: list[tuple[str, Explanation]] = []

    def texts(self, texts: Sequence[str]) -> None:
        """Prints the answers to texts of the command line."""
        for number, (text, (row, why)) in enumerate(zip(texts, self._found(texts)), 1):
            self._print(short(text), {"text": text}, row, why, f"text {number}")

    def file(self, name: str, examples: np.ndarray | Sequence[str]) -> None:
        """Prints the answers to a file's examples."""
        for index, (row, why) in enumerate(self._found(examples)):
            label = f"{name}[{index}]" if len(examples) > 1 else name
            self._print(label, {"file": name, "index": index}, row, why, label)

    def answer(self, examples: np.ndarray | Sequence[str]) -> dict[str, Any]:
        """The answer to one example of a stream, `[1, ...]`."""
        [(row, why)] = self._found(examples)
        return self._object(row, why)

    def close(self) -> None:
        """Writes the page.

        Raises:
            BadInput: it cannot be written.
        """
        if self._page is not None and self._explained:
            pages.write(self._page, self._explained)

    def _found(self, examples) -> Iterator[tuple[np.ndarray, Explanation | None]]:
        """Probabilities `[classes]` and perhaps an explanation of each."""
        if self._explainer is None:
            yield from ((row, None) for row in self._predictor.probabilities(examples))
            return
        for text in examples:
            [found] = self._explainer.explain([text])
            yield found.probabilities, found

    def _print(self, label: str, about: dict[str, Any], row: np.ndarray, why: Explanation | None, title: str) -> None:
        if self._as_json:
            print(json.dumps({**about, **self._object(row, why)}))
        else:
            ranked = (f"{name}\t{probability:.4f}" for name, probability in self._ranked(row))
            print(label, *ranked, sep="\t")
            if why is not None:
                # https://no-color.org
                colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
                print(f"  {shown.coloured(why) if colours else shown.plain(why)}")
                print(f"  {shown.account(why)}")
        if why is not None and self._page is not None:
            self._explained.append((title, why))

    def _object(self, row: np.ndarray, why: Explanation | None) -> dict[str, Any]:
        ranked = [{"class": name, "probability": probability} for name, probability in self._ranked(row)]
        answer = ranked[0] if self._top == 1 else {**ranked[0], "top": ranked}
        return answer if why is None else answer | shown.as_json(why)

    def _ranked(self, row: np.ndarray) -> list[tuple[str, float]]:
        order = (-row).argsort(kind="stable")[: self._top]
        return [(self._predictor.classes[label], float(row[label])) for label in order]


def short(text: str) -> str:
    """The beginning of a text in one line."""
    line = " ".join(shown.visible(text).split())
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 1]}…"
