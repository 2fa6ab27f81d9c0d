"""Feature vectors before a model's last layer: points for the embedding projector; and pictures of examples."""

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from zoo.metrics.logits import class_probabilities
from zoo.models.logits_mixture import LogitsMixture
from zoo.names import escaped
from zoo.tensorboard.task_views import Images, Texts
from zoo.tensorboard.views import Arrays, ProjectorPoints

# Examples per forward pass.
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
        model: a classifier whose last layer computes the logits, `[batch, classes]` or `[batch, 1]` for two classes.
        columns: columns of the examples; `y` is the class.
        classes: class names in the order of the labels.
        inputs: selects the model's inputs from a batch of columns.
        texts: `texts(columns, rows)` returns the texts of some examples.
        images: `images(columns, rows)` returns pictures of some examples.
    """
    classes = [escaped(str(name)) for name in classes]

    def points(count: int) -> ProjectorPoints:
        rows = spread(len(columns["y"]), count)
        vectors, logits = before_last(model, [inputs(part) for part in _batches(columns, rows)])
        # The last layer of an ensemble takes the mean of its members' logits.
        vectors = vectors.reshape(len(vectors), -1)
        predicted = class_probabilities(logits).argmax(axis=1)
        labels = {"class": [classes[i] for i in columns["y"][rows]], "predicted": [classes[i] for i in predicted]}
        if texts is not None:
            labels["text"] = [text[:200] for text in texts(columns, rows)]
        return ProjectorPoints(vectors, labels, images(columns, rows) if images is not None else None)

    return points


def of_tags(
    model: keras.Model,
    columns: Arrays,
    tags: Sequence[str],
    ignored: int,
    inputs: Callable[[Arrays], object],
    tokens: Callable[[np.ndarray], list[str]],
) -> Callable[[int], ProjectorPoints]:
    """Points of a tagger's words, with their true and predicted tag; see `task_views.tagger` and `of_classes`."""

    def points(count: int) -> ProjectorPoints:
        # A sentence has about 5 words or more.
        rows = spread(len(columns["tags"]), max(1, count // 5))
        vectors, logits = before_last(model, [inputs(part) for part in _batches(columns, rows)])  # [rows, time, ...]
        true = np.asarray(columns["tags"][rows])
        row, position = np.nonzero(true != ignored)
        chosen = spread(len(row), count)
        row, position = row[chosen], position[chosen]
        words = {one: tokens(np.asarray(columns["tokens"][rows[one]])) for one in np.unique(row)}
        labels = {
            "tag": [tags[i] for i in true[row, position]],
            "predicted": [tags[i] for i in logits[row, position].argmax(axis=-1)],
            "word": [words[i][j] for i, j in zip(row, position, strict=True)],
        }
        return ProjectorPoints(vectors[row, position], labels)

    return points


def of_texts(
    embedder: keras.Model,
    columns: Arrays,
    inputs: Callable[[Arrays], object],
    texts: Texts,
    classes: Sequence[str] = (),
) -> Callable[[int], ProjectorPoints]:
    """Points of texts from a model with one vector per text, with the classes of the column `y` if there are any."""
    classes = [escaped(str(name)) for name in classes]

    def points(count: int) -> ProjectorPoints:
        rows = spread(len(columns["tokens"]), count)
        vectors = [np.asarray(embedder(inputs(part), training=False)) for part in _batches(columns, rows)]
        labels = {"text": [text[:200] for text in texts(columns, rows)]}
        if classes:
            labels = {"class": [classes[i] for i in columns["y"][rows]]} | labels
        return ProjectorPoints(np.concatenate(vectors).astype(np.float32), labels)

    return points


def of_vocabulary(
    model: keras.Model, ids: np.ndarray, token: Callable[[int], str | None]
) -> Callable[[int], ProjectorPoints]:
    """Points of the most frequent tokens: their rows of the embedding.

    Args:
        model: a model whose first matrix is the embedding `[vocabulary, width]`.
        ids: token ids of the training text.
        token: returns the token of an id.
    """

    def points(count: int) -> ProjectorPoints:
        matrix = np.asarray(next(v for v in model.trainable_variables if len(v.shape) == 2))
        counts = np.bincount(np.asarray(ids), minlength=len(matrix))[: len(matrix)]
        # 0 is padding.
        frequent = [id for id in np.argsort(-counts, kind="stable")[:count] if id and counts[id]]
        labels = {"token": [repr(token(id))[1:-1] for id in frequent], "count": [str(counts[id]) for id in frequent]}
        return ProjectorPoints(matrix[frequent], labels)

    return points


def before_last(model: keras.Model, batches: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Input of the last layer, float32 `[examples, width]`, and the model's output `[examples, ...]`.

    Of a network whose logits are mixed with those of a linear model, the last layer is the network's own.
    """
    is_mixture = isinstance(model.layers[-1], (LogitsMixture, keras.layers.Add))
    last = model.get_layer("head") if is_mixture else model.layers[-1]
    # A single input is not a list, as in the batches.
    both = keras.Model(model.inputs if len(model.inputs) > 1 else model.inputs[0], [last.input, model.outputs[0]])
    pairs = [both(batch, training=False) for batch in batches]
    return tuple(np.concatenate([np.asarray(pair[i], np.float32) for pair in pairs]) for i in (0, 1))


def spread(examples: int, count: int) -> np.ndarray:
    """Indices of at most `count` examples at even distances, as files are often sorted."""
    return np.unique(np.linspace(0, examples - 1, min(count, examples)).astype(int))


def are_pictures(shape: Sequence[int], scale: float) -> bool:
    """Whether examples `[examples, ...]` are pictures: intensities in two dimensions, perhaps with 1 or 3 channels."""
    return scale > 0 and (len(shape) == 3 or (len(shape) == 4 and shape[-1] in (1, 3)))


def pixels(scale: float) -> Images:
    """Pictures from the column `x` of intensities 0 to `scale`."""

    def images(columns: Arrays, rows: np.ndarray) -> np.ndarray:
        values = np.asarray(columns["x"][rows], np.float32) * (255.0 / scale)
        values = np.clip(values, 0, 255).astype(np.uint8)
        return values[..., 0] if values.ndim == 4 and values.shape[-1] == 1 else values

    return images


def _batches(columns: Arrays, rows: np.ndarray) -> list[Mapping[str, np.ndarray]]:
    parts = np.array_split(rows, -(-len(rows) // _BATCH))
    return [{name: np.asarray(column[part]) for name, column in columns.items()} for part in parts]
