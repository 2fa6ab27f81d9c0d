"""TensorBoard views of an evaluation for `Experiment.visualize`, one function per task."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import special

from zoo import names
from zoo.metrics import confusion
from zoo.metrics.logits import class_probabilities
from zoo.tensorboard import images as pictures
from zoo.tensorboard.views import Arrays, EvaluationView, PrecisionRecallInputs, Visualize

# `texts(columns, rows)`: the texts of some examples; `images(columns, rows)`: uint8 `[rows, height, width]` or
# `[rows, height, width, 3]`.
Texts = Callable[[Arrays, np.ndarray], list[str]]
Images = Callable[[Arrays, np.ndarray], np.ndarray]

# Maximum number of examples in a table and in a picture, and of characters in a cell; nobody looks at more.
_ROWS, _PICTURES, _CHARACTERS = 20, 25, 400
# Maximum number of classes with a precision-recall curve.
_CURVES = 20


def classifier(classes: Sequence[str], *, texts: Texts | None = None, images: Images | None = None) -> Visualize:
    """Confusion matrix, precision-recall curves and examples, from the output `logits` and the column `y`.

    `logits` are `[examples, classes]`, or `[examples, 1]` for two classes.

    Args:
        classes: class names in the order of the labels.
        texts: `texts(columns, rows)` returns the texts of some examples.
        images: `images(columns, rows)` returns pictures uint8 `[rows, height, width]` or `[rows, height, width, 3]`.
    """
    shown = [names.escaped(str(name)) for name in classes]

    def visualize(outputs: Arrays, columns: Arrays) -> EvaluationView:
        probabilities, labels, weights = class_probabilities(outputs["logits"]), columns["y"], columns.get("weight")
        predicted = probabilities.argmax(axis=1)
        matrix = _matrix(labels, predicted, len(classes), weights)
        view = EvaluationView(
            {"confusion": pictures.confusion(matrix, shown)},
            {"confused_pairs": _confused(matrix, shown)},
            _curves(probabilities, labels, classes, weights),
        )
        of_label = probabilities[np.arange(len(labels)), labels]
        worst = _worst(1.0 - of_label, predicted != labels)
        sample = np.unique(np.linspace(0, len(labels) - 1, _PICTURES).astype(int))
        if images is not None:
            for tag, rows in (("worst_errors", worst[:_PICTURES]), ("predictions", sample)):
                if len(rows):
                    captions = [_caption(shown, labels[i], probabilities[i]) for i in rows]
                    right = predicted[rows] == labels[rows]
                    view.images[tag] = pictures.grid(images(columns, rows), captions, right)
        if texts is not None:
            for tag, rows in (("worst_errors", worst), ("predictions", sample[:_ROWS])):
                cells = [
                    (shown[labels[i]], shown[predicted[i]], f"{probabilities[i].max():.3f}", text)
                    for i, text in zip(rows, texts(columns, rows), strict=True)
                ]
                view.texts[tag] = table(("true", "predicted", "probability", "text"), cells)
        return view

    return visualize


def multi_label(labels: Sequence[str], texts: Texts) -> Visualize:
    """Precision-recall curves, and the examples with the most wrong labels, from `logits` and `y` `[examples, labels]`.

    Args:
        labels: names of the labels.
        texts: `texts(columns, rows)` returns the texts of some examples.
    """
    shown = [names.escaped(str(name)) for name in labels]

    def said(has: np.ndarray) -> str:
        return ", ".join(shown[label] for label in np.flatnonzero(has)) or "none"

    def visualize(outputs: Arrays, columns: Arrays) -> EvaluationView:
        probabilities, true = special.expit(np.asarray(outputs["logits"], np.float64)), columns["y"] > 0
        predicted = probabilities >= 0.5
        wrong = (predicted != true).sum(axis=1)
        worst = _worst(wrong.astype(float), wrong > 0)
        cells = [
            (said(true[i]), said(predicted[i]), text) for i, text in zip(worst, texts(columns, worst), strict=True)
        ]
        curves = {
            f"precision_recall/{name}": PrecisionRecallInputs(true[:, k], probabilities[:, k], columns.get("weight"))
            for k, name in enumerate(names.keys(labels)[:_CURVES])
        }
        return EvaluationView(curves=curves, texts={"worst_errors": table(("true", "predicted", "text"), cells)})

    return visualize


def regression(texts: Texts, scale: float = 1.0, centre: float = 0.0) -> Visualize:
    """The examples with the largest difference between the output `logits` `[examples, 1]` and the column `y`.

    Args:
        texts: `texts(columns, rows)` returns the texts of some examples.
        scale: size of one unit of both in the values' own units.
        centre: the value that 0 represents.
    """

    def visualize(outputs: Arrays, columns: Arrays) -> EvaluationView:
        predicted, true = (
            np.asarray(part, np.float64) * scale + centre for part in (outputs["logits"][:, 0], columns["y"])
        )
        worst = _worst(np.abs(predicted - true))
        cells = [
            (f"{true[i]:.6g}", f"{predicted[i]:.6g}", text)
            for i, text in zip(worst, texts(columns, worst), strict=True)
        ]
        return EvaluationView(texts={"worst_errors": table(("true", "predicted", "text"), cells)})

    return visualize


def tagger(tags: Sequence[str], ignored: int, tokens: Callable[[np.ndarray], list[str]]) -> Visualize:
    """Confusion matrix and worst rows, from the output `predicted` int `[rows, time]` and the column `tags`.

    Args:
        tags: tag names in the order of the labels.
        ignored: the label of positions that are not evaluated.
        tokens: returns the tokens of a row of ids, one per id.
    """
    shown = [names.escaped(tag) for tag in tags]

    def visualize(outputs: Arrays, columns: Arrays) -> EvaluationView:
        predicted = outputs["predicted"]
        # Outputs may be narrower than the columns, whose width no batch may have reached.
        true = columns["tags"][:, : predicted.shape[1]]
        evaluated = true != ignored
        matrix = _matrix(true[evaluated], predicted[evaluated], len(tags))
        wrong = evaluated & (true != predicted)
        cells = []
        for row in _worst(wrong.sum(axis=1).astype(float), wrong.any(axis=1)):
            words = tokens(columns["tokens"][row])
            marked = [
                f"{word} **[{shown[true[row, i]]} → {shown[predicted[row, i]]}]**" if wrong[row, i] else word
                for i, word in enumerate(words[: predicted.shape[1]])
            ]
            cells.append((f"{wrong[row].sum()}", " ".join(marked)))
        return EvaluationView(
            images={"confusion": pictures.confusion(matrix, shown)},
            texts={
                "confused_pairs": _confused(matrix, shown),
                "worst_errors": table(("wrong", "tokens"), cells, most=1000),
            },
        )

    return visualize


def language(texts: Texts, write: Callable[[], str] | None = None) -> Visualize:
    """The rows of text with the highest output `row_loss` `[rows]`, in nats per token, and a generated sample.

    Args:
        texts: `texts(columns, rows)` returns the texts of some rows.
        write: generates a sample, in Markdown; None if the model cannot generate.
    """

    def visualize(outputs: Arrays, columns: Arrays) -> EvaluationView:
        losses = outputs["row_loss"]
        worst = _worst(losses)
        cells = [(f"{losses[i]:.3f}", text) for i, text in zip(worst, texts(columns, worst), strict=True)]
        views = {"worst_errors": table(("nats a token", "text"), cells)}
        return EvaluationView(texts=views | ({"sample": write()} if write is not None else {}))

    return visualize


def decoded(decode: Callable[[np.ndarray], str]) -> Texts:
    """Texts as the network reads them, decoded from the column `tokens`."""
    return lambda columns, rows: [decode(np.asarray(columns["tokens"][row])) for row in rows]


def gaps(tokens: Callable[[np.ndarray], list[str]]) -> Visualize:
    """Rows with masked tokens: the original token at each of `places` `[rows, most]` (-1 for none), and `guessed`."""

    def visualize(outputs: Arrays, columns: Arrays) -> EvaluationView:
        if "guessed" not in outputs:
            return EvaluationView()
        cells = []
        for row in np.unique(np.linspace(0, len(outputs["guessed"]) - 1, _ROWS).astype(int)):
            words = tokens(np.asarray(columns["tokens"][row]))
            # One call per prediction, which may be padding.
            pairs = zip(outputs["places"][row].tolist(), outputs["guessed"][row], strict=True)
            predicted = {position: tokens(np.array([id]))[0] for position, id in pairs if position >= 0}
            marked = [_marked(word, predicted.get(position)) for position, word in enumerate(words)]
            right = sum(words[position] == token for position, token in predicted.items())
            cells.append((f"{right} of {len(predicted)}", " ".join(marked)))
        return EvaluationView(texts={"gaps": table(("right", "tokens"), cells, most=1000)})

    return visualize


def table(header: Sequence[str], rows: Sequence[Sequence[str]], most: int = _CHARACTERS) -> str:
    """A table in Markdown; a cell is one line of at most `most` characters."""
    if not rows:
        return "none"
    lines = [header, ["---"] * len(header), *([_cell(cell, most) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def verbatim(text: str) -> str:
    """A text as a Markdown code block."""
    return "\n".join(f"    {line}" for line in text.split("\n"))


def _marked(word: str, predicted: str | None) -> str:
    """A masked word in bold, with the predicted one if it differs; other words (None) unchanged."""
    if predicted is None:
        return word
    return f"**{word}**" if word == predicted else f"**{word} [{predicted}]**"


def _cell(text: str, most: int) -> str:
    line = " ".join(text.split()).replace("|", "\\|")
    return line if len(line) <= most else f"{line[:most]} ..."


def _matrix(labels: np.ndarray, predicted: np.ndarray, classes: int, weights: np.ndarray | None = None) -> np.ndarray:
    """The confusion matrix `[classes (true), classes (predicted)]`."""
    cells = labels.astype(np.int64) * classes + predicted
    return np.bincount(cells, weights, minlength=classes**2).reshape(classes, classes)


def _confused(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """The most frequent errors; the picture of a matrix of many classes has no names."""
    cells = [(classes[true], classes[predicted], f"{count:g}") for true, predicted, count in confusion.worst(matrix)]
    return table(("true", "predicted", "count"), cells)


def _worst(badness: np.ndarray, wrong: np.ndarray | None = None) -> np.ndarray:
    """Indices of the worst examples, the worst first; ties in their order."""
    order = np.argsort(-badness, kind="stable")
    return (order if wrong is None else order[wrong[order]])[: max(_ROWS, _PICTURES)]


def _curves(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], weights: np.ndarray | None
) -> dict[str, PrecisionRecallInputs]:
    if len(classes) == 2:
        return {"precision_recall": PrecisionRecallInputs(labels == 1, probabilities[:, 1], weights)}
    return {
        f"precision_recall/{name}": PrecisionRecallInputs(labels == k, probabilities[:, k], weights)
        for k, name in enumerate(names.keys(classes)[:_CURVES])
    }


def _caption(classes: Sequence[str], label: int, probabilities: np.ndarray) -> str:
    predicted = int(probabilities.argmax())
    caption = f"{classes[predicted]} ({probabilities[predicted]:.0%})"
    return caption if predicted == label else f"{caption}\nis {classes[label]} ({probabilities[label]:.0%})"
