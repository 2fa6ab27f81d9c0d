"""TensorBoard views of an evaluation, one function per task: what `Experiment.visualize` is for."""

from collections.abc import Callable, Sequence

import numpy as np

from zoo.metrics.logits import class_probabilities
from zoo.tensorboard import images as pictures
from zoo.tensorboard.views import Arrays, EvaluationView, PrecisionRecallInputs, Visualize

# `texts(columns, places)`: the texts of some examples; `images(columns, places)`: uint8 `[places, height, width]`, or
# with 3 colours.
Texts = Callable[[Arrays, np.ndarray], list[str]]
Images = Callable[[Arrays, np.ndarray], np.ndarray]

# Examples of one table or picture, and the longest text in it; more is not looked at.
_ROWS, _PICTURES, _CHARACTERS = 20, 25, 400
# Classes with a curve of their own.
_CURVES = 20


def classifier(classes: Sequence[str], *, texts: Texts | None = None, images: Images | None = None) -> Visualize:
    """Shows the output `logits` `[examples, classes]`, or `[examples, 1]` for two classes, against the column `y`.

    Args:
        classes: names in the order of the labels.
        texts: `texts(columns, places)` gives the texts of some examples.
        images: `images(columns, places)` gives pictures uint8 `[places, height, width]` or `[.., 3]`.
    """

    def show(outputs: Arrays, columns: Arrays) -> EvaluationView:
        found, labels, weights = class_probabilities(outputs["logits"]), columns["y"], columns.get("weight")
        predicted = found.argmax(axis=1)
        matrix = _matrix(labels, predicted, len(classes), weights)
        view = EvaluationView(
            {"confusion": pictures.confusion(matrix, classes)}, {}, _curves(found, labels, classes, weights)
        )
        of_label = found[np.arange(len(labels)), labels]
        worst = _worst(1.0 - of_label, predicted != labels)
        some = np.unique(np.linspace(0, len(labels) - 1, _PICTURES).astype(int))
        if images is not None:
            for tag, places in (("worst_errors", worst[:_PICTURES]), ("predictions", some)):
                if len(places):
                    captions = [_caption(classes, labels[i], found[i]) for i in places]
                    right = predicted[places] == labels[places]
                    view.images[tag] = pictures.grid(images(columns, places), captions, right)
        if texts is not None:
            for tag, places in (("worst_errors", worst), ("predictions", some[:_ROWS])):
                rows = [
                    (classes[labels[i]], classes[predicted[i]], f"{found[i].max():.3f}", text)
                    for i, text in zip(places, texts(columns, places), strict=True)
                ]
                view.texts[tag] = table(("true", "predicted", "probability", "text"), rows)
        return view

    return show


def regression(texts: Texts, scale: float = 1.0, centre: float = 0.0) -> Visualize:
    """Shows where the output `logits` `[examples, 1]` is furthest from the column `y`.

    Args:
        texts: what the examples say.
        scale: what one unit of both is in the values' own units.
        centre: the value that 0 stands for.
    """

    def show(outputs: Arrays, columns: Arrays) -> EvaluationView:
        found, true = (
            np.asarray(part, np.float64) * scale + centre for part in (outputs["logits"][:, 0], columns["y"])
        )
        worst = _worst(np.abs(found - true))
        rows = [
            (f"{true[i]:.6g}", f"{found[i]:.6g}", text) for i, text in zip(worst, texts(columns, worst), strict=True)
        ]
        return EvaluationView(texts={"worst_errors": table(("true", "predicted", "text"), rows)})

    return show


def tagger(tags: Sequence[str], ignored: int, tokens: Callable[[np.ndarray], list[str]]) -> Visualize:
    """Shows the output `predicted` int `[rows, time]` against the column `tags`: the matrix, and the worst rows.

    Args:
        tags: their names.
        ignored: the tag of a place that is not judged.
        tokens: gives the words of a row of ids, one for each.
    """

    def show(outputs: Arrays, columns: Arrays) -> EvaluationView:
        true, found = columns["tags"], outputs["predicted"]
        # Outputs may be narrower than the columns: no batch was as wide.
        true = true[:, : found.shape[1]]
        judged = true != ignored
        matrix = _matrix(true[judged], found[judged], len(tags))
        wrong = judged & (true != found)
        rows = []
        for row in _worst(wrong.sum(axis=1).astype(float), wrong.any(axis=1)):
            words = tokens(columns["tokens"][row])
            marked = [
                f"{word} **[{tags[true[row, i]]} → {tags[found[row, i]]}]**" if wrong[row, i] else word
                for i, word in enumerate(words[: found.shape[1]])
            ]
            rows.append((f"{wrong[row].sum()}", " ".join(marked)))
        return EvaluationView(
            images={"confusion": pictures.confusion(matrix, tags)},
            texts={"worst_errors": table(("wrong", "tokens"), rows, most=1000)},
        )

    return show


def language(texts: Texts, write: Callable[[], str] | None = None) -> Visualize:
    """Shows the rows of text with the highest output `row_loss` `[rows]`, nats a token, and what the model writes.

    Args:
        texts: as in `classifier`.
        write: generates a sample, in Markdown; None where the model cannot.
    """

    def show(outputs: Arrays, columns: Arrays) -> EvaluationView:
        losses = outputs["row_loss"]
        worst = _worst(losses)
        rows = [(f"{losses[i]:.3f}", text) for i, text in zip(worst, texts(columns, worst), strict=True)]
        found = {"worst_errors": table(("nats a token", "text"), rows)}
        return EvaluationView(texts=found | ({"sample": write()} if write is not None else {}))

    return show


def decoded(decode: Callable[[np.ndarray], str]) -> Texts:
    """Texts as the network reads them, from the column `tokens`."""
    return lambda columns, places: [decode(np.asarray(columns["tokens"][place])) for place in places]


def gaps(tokens: Callable[[np.ndarray], list[str]]) -> Visualize:
    """Shows rows with hidden tokens: what stood at `places` `[rows, most]` (-1 for none), and what was `guessed`."""

    def show(outputs: Arrays, columns: Arrays) -> EvaluationView:
        if "guessed" not in outputs:
            return EvaluationView()
        rows = []
        for row in np.unique(np.linspace(0, len(outputs["guessed"]) - 1, _ROWS).astype(int)):
            words = tokens(np.asarray(columns["tokens"][row]))
            # A guess may be padding, so each by itself.
            pairs = zip(outputs["places"][row].tolist(), outputs["guessed"][row], strict=True)
            guesses = {place: tokens(np.array([id]))[0] for place, id in pairs if place >= 0}
            marked = [_marked(word, guesses.get(place)) for place, word in enumerate(words)]
            right = sum(words[place] == guess for place, guess in guesses.items())
            rows.append((f"{right} of {len(guesses)}", " ".join(marked)))
        return EvaluationView(texts={"gaps": table(("right", "tokens"), rows, most=1000)})

    return show


def table(header: Sequence[str], rows: Sequence[Sequence[str]], most: int = _CHARACTERS) -> str:
    """A table in Markdown; a cell is one line of at most so many characters."""
    if not rows:
        return "none"
    lines = [header, ["---"] * len(header), *([_cell(cell, most) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def verbatim(text: str) -> str:
    """A text as it is, in Markdown."""
    return "\n".join(f"    {line}" for line in text.split("\n"))


def _marked(word: str, guess: str | None) -> str:
    """A word that was hidden, and what was guessed if it was another."""
    if guess is None:
        return word
    return f"**{word}**" if word == guess else f"**{word} [{guess}]**"


def _cell(text: str, most: int) -> str:
    whole = " ".join(text.split()).replace("|", "\\|")
    return whole if len(whole) <= most else f"{whole[:most]} ..."


def _matrix(labels: np.ndarray, predicted: np.ndarray, classes: int, weights: np.ndarray | None = None) -> np.ndarray:
    """The confusion matrix `[classes (true), classes (predicted)]`."""
    cells = labels.astype(np.int64) * classes + predicted
    return np.bincount(cells, weights, minlength=classes**2).reshape(classes, classes)


def _worst(badness: np.ndarray, wrong: np.ndarray | None = None) -> np.ndarray:
    """Places of the worst, the worst first; of those that tie, in their order."""
    order = np.argsort(-badness, kind="stable")
    return (order if wrong is None else order[wrong[order]])[: max(_ROWS, _PICTURES)]


def _curves(found: np.ndarray, labels: np.ndarray, classes: Sequence[str], weights) -> dict[str, PrecisionRecallInputs]:
    if len(classes) == 2:
        return {"precision_recall": PrecisionRecallInputs(labels == 1, found[:, 1], weights)}
    names = [str(name).replace("/", "|") for name in classes][:_CURVES]
    return {
        f"precision_recall/{name}": PrecisionRecallInputs(labels == k, found[:, k], weights)
        for k, name in enumerate(names)
    }


def _caption(classes: Sequence[str], label: int, found: np.ndarray) -> str:
    guess = int(found.argmax())
    said = f"{classes[guess]} ({found[guess]:.0%})"
    return said if guess == label else f"{said}\nis {classes[label]} ({found[label]:.0%})"
