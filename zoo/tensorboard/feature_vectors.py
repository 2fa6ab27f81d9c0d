"""What a trained model makes of some examples before its last layer: points for the embedding projector.

And how examples of arrays are drawn.
"""

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from zoo.metrics.logits import class_probabilities
from zoo.tensorboard.task_views import Images, Texts
from zoo.tensorboard.views import Arrays, ProjectorPoints

# Examples that are computed at once.
_BATCH = 64


def of_classes(
    model: keras.Model,
    columns: Arrays,
    classes: Sequence[str],
    *,
    inputs: Callable[[Arrays], object] = lambda batch: batch["x"],
    texts: Texts | None = None,
    images: Images | None = None,
) -> Callable[[int], ProjectorPoints]:
    """Points of a classifier's examples, with their true and predicted class.

    Args:
        model: its last layer makes the logits `[batch, classes]`, or `[batch, 1]` for two classes.
        columns: of the examples; `y` is the class.
        classes: names in the order of the labels.
        inputs: what the model takes of a batch of columns.
        texts: as in `looks.classifier`.
        images: likewise.
    """

    def points(count: int) -> ProjectorPoints:
        some = spread(len(columns["y"]), count)
        vectors, logits = before_last(model, [inputs(part) for part in _batches(columns, some)])
        predicted = class_probabilities(logits).argmax(axis=1)
        labels = {"class": [classes[i] for i in columns["y"][some]], "predicted": [classes[i] for i in predicted]}
        if texts is not None:
            labels["text"] = [text[:200] for text in texts(columns, some)]
        return ProjectorPoints(vectors, labels, images(columns, some) if images is not None else None)

    return points


def of_tags(
    model: keras.Model,
    columns: Arrays,
    tags: Sequence[str],
    ignored: int,
    inputs: Callable[[Arrays], object],
    tokens: Callable[[np.ndarray], list[str]],
) -> Callable[[int], ProjectorPoints]:
    """Points of a tagger's words, with their true and predicted tag; see `looks.tagger` and `of_classes`."""

    def points(count: int) -> ProjectorPoints:
        # A sentence has about this many words or more.
        rows = spread(len(columns["tags"]), max(1, count // 5))
        vectors, logits = before_last(model, [inputs(part) for part in _batches(columns, rows)])
        true = np.asarray(columns["tags"][rows])
        row, place = np.nonzero(true != ignored)
        some = spread(len(row), count)
        row, place = row[some], place[some]
        words = {one: tokens(np.asarray(columns["tokens"][rows[one]])) for one in np.unique(row)}
        labels = {
            "tag": [tags[i] for i in true[row, place]],
            "predicted": [tags[i] for i in logits[row, place].argmax(axis=-1)],
            "word": [words[i][j] for i, j in zip(row, place, strict=True)],
        }
        return ProjectorPoints(vectors[row, place], labels)

    return points


def of_texts(
    embedder: keras.Model,
    columns: Arrays,
    inputs: Callable[[Arrays], object],
    texts: Texts,
    classes: Sequence[str] = (),
) -> Callable[[int], ProjectorPoints]:
    """Points of texts by a model that gives one vector for each, with the classes of the column `y` where known."""

    def points(count: int) -> ProjectorPoints:
        some = spread(len(columns["tokens"]), count)
        found = [np.asarray(embedder(inputs(part), training=False)) for part in _batches(columns, some)]
        labels = {"text": [text[:200] for text in texts(columns, some)]}
        if classes:
            labels = {"class": [classes[i] for i in columns["y"][some]]} | labels
        return ProjectorPoints(np.concatenate(found).astype(np.float32), labels)

    return points


def of_vocabulary(
    model: keras.Model, ids: np.ndarray, token: Callable[[int], str | None]
) -> Callable[[int], ProjectorPoints]:
    """Points of the most frequent tokens: their rows of the embedding.

    Args:
        model: the first of its matrices is the embedding `[vocabulary, width]`.
        ids: of the training text.
        token: how an id is written.
    """

    def points(count: int) -> ProjectorPoints:
        matrix = np.asarray(next(v for v in model.trainable_variables if len(v.shape) == 2))
        counts = np.bincount(np.asarray(ids), minlength=len(matrix))[: len(matrix)]
        # 0 is padding.
        some = [id for id in np.argsort(-counts, kind="stable")[:count] if id and counts[id]]
        labels = {"token": [repr(token(id))[1:-1] for id in some], "count": [str(counts[id]) for id in some]}
        return ProjectorPoints(matrix[some], labels)

    return points


def before_last(model: keras.Model, batches: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """What the last layer gets and gives, float32 `[examples, width]` and `[examples, ...]`."""
    last = model.layers[-1]
    # A single input by itself, as the batches have it.
    both = keras.Model(model.inputs if len(model.inputs) > 1 else model.inputs[0], [last.input, last.output])
    found = [both(batch, training=False) for batch in batches]
    return tuple(np.concatenate([np.asarray(pair[i], np.float32) for pair in found]) for i in (0, 1))


def spread(examples: int, count: int) -> np.ndarray:
    """Places of at most so many examples, evenly over all: files are often in an order."""
    return np.unique(np.linspace(0, examples - 1, min(count, examples)).astype(int))


def are_pictures(shape: Sequence[int], scale: float) -> bool:
    """Whether examples `[examples, ...]` can be drawn: intensities in two dimensions, perhaps with 1 or 3 colours."""
    return scale > 0 and (len(shape) == 3 or (len(shape) == 4 and shape[-1] in (1, 3)))


def pixels(scale: float) -> Images:
    """Draws the column `x` of intensities 0 to `scale`."""

    def images(columns: Arrays, places: np.ndarray) -> np.ndarray:
        found = np.asarray(columns["x"][places], np.float32) * (255.0 / scale)
        found = np.clip(found, 0, 255).astype(np.uint8)
        return found[..., 0] if found.ndim == 4 and found.shape[-1] == 1 else found

    return images


def _batches(columns: Arrays, places: np.ndarray) -> list[Mapping[str, np.ndarray]]:
    parts = np.array_split(places, -(-len(places) // _BATCH))
    return [{name: np.asarray(column[part]) for name, column in columns.items()} for part in parts]
