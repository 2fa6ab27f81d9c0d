"""A trained classifier, loaded from the folder of its run: its predictions, and how good they are."""

import functools
import math
import statistics
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Registers the layers that a saved model may have.
import zoo.models.layers  # noqa: F401
from zoo import config as configs
from zoo import workdir as folders
from zoo.data import splits
from zoo.data.batches import Batches
from zoo.data.datasets import csv_tables, extra_examples, images, tables
from zoo.data.splits import Columns, Splits
from zoo.errors import BadInput, NonFinite
from zoo.predict.evaluation import tags
from zoo.predict.evaluation import texts as text_evaluation
from zoo.predict.predictors import array_inputs, fill_mask, tagger, text_classifier
from zoo.predict.predictors import litert as runtimes
from zoo.predict.predictors.fill_mask import GapPredictor
from zoo.predict.predictors.tagger import TagPredictor
from zoo.predict.predictors.text_classifier import TextPredictor, ValuePredictor

# Of what an encoder may have learned besides classes.
_LOADS = {"regression": text_classifier.load_values, "tagging": tagger.load, "pretraining": fill_mask.load}

# Each size is compiled once; a batch is padded to the next one. 1 is for streams, 256 keeps the devices busy.
_SIZES = (1, 16, 256)
# Of the normal distribution, for a two-sided interval of 95 %.
_Z = statistics.NormalDist().inv_cdf(0.975)


def load(
    workdir: str | Path, runtime: str = "auto"
) -> "Predictor | TextPredictor | ValuePredictor | TagPredictor | GapPredictor":
    """Loads what a run left in its folder: a classifier of arrays or of texts, or what else an encoder has learned.

    Args:
        workdir: of the run.
        runtime: of classifiers, for one example at a time: "litert" converts the model, once, which takes seconds;
            "auto" is LiteRT where that was done before; "compiled" is always the model itself, as for all batches of
            more examples. See `zoo.predict.predictors.litert`.

    Raises:
        BadInput: there is no model, it cannot be read, it is of another task, or LiteRT is asked for and not installed.
    """
    workdir = configs.absolute(workdir)
    about = folders.read_json(workdir, folders.ABOUT)
    try:
        task, classes = about["task"], about.get("classes", [])
        classes = tuple(str(name) for name in classes)
        largest = float(about.get("largest", 0.0))
        features = tuple(str(name) for name in about.get("features", []))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadInput(
            f"{workdir / folders.ABOUT} does not say task and classes: expected what the experiment gives by "
            "Experiment(about=...); or the file is damaged, then train again"
        ) from None
    if task == "language_model":
        raise BadInput(f"{workdir} holds a language model: use zoo score for texts, or zoo generate for a prompt")
    if task in _LOADS:
        return _LOADS[task](workdir, about, read_model(workdir / folders.MODEL))
    if task != "classification":
        raise BadInput(f"{workdir} holds a model for {task}, expected one for classification")
    model = read_model(workdir / folders.MODEL)
    reads_text = about.get("input") == "text"
    # Of two classes of texts there may be one logit, that of the second.
    if model.output_shape[-1] != len(classes) and not (reads_text and (model.output_shape[-1], len(classes)) == (1, 2)):
        raise BadInput(
            f"{workdir}: {folders.MODEL} has {model.output_shape[-1]} outputs, {folders.ABOUT} has {len(classes)} "
            "classes; expected the two files of one run"
        )
    found = (
        text_classifier.load(workdir, about, model, classes)
        if reads_text
        else Predictor(model, classes, largest, features)
    )
    found.lite = runtimes.lite(workdir, workdir / folders.MODEL, runtime)
    return found


class Predictor:
    """A classifier of examples of one shape.

    Attributes:
        model: from `[batch, *shape]` to logits `[batch, classes]`.
        classes: names in the order of the logits.
        shape: of one example.
        largest: intensity of a pixel that the model was trained on, 0 for features of any scale.
        features: names of the columns of a table that the model was trained on; empty where none were kept.
        dtype: of the examples; uint8 for raw pixels of 0 to 255, float32 for features.
        lite: what may answer for one example at a time.
    """

    def __init__(
        self, model: keras.Model, classes: tuple[str, ...], largest: float = 0.0, features: tuple[str, ...] = ()
    ):
        self.model = model
        self.features = features
        self.largest = largest
        self.classes = classes
        self.shape = tuple(model.input_shape[1:])
        self.dtype = np.dtype(model.inputs[0].dtype)
        self.lite: runtimes.Lite | None = None
        # Of any number of rows, so that it is traced once. TensorFlow takes all functions of one line of code for one
        # that is traced again and again, and warns; of a partial it cannot.
        signature = [tf.TensorSpec((None, *self.shape), self.dtype)]
        self._forward = tf.function(functools.partial(model, training=False), signature, autograph=False)

    def probabilities(self, examples: np.ndarray) -> np.ndarray:
        """The probability of each class, float32 `[examples, classes]`; see `logits` for what it takes and raises."""
        return np.exp(_log_softmax(self.logits(examples))).astype(np.float32)

    def logits(self, examples: np.ndarray) -> np.ndarray:
        """The model's output, batch by batch.

        Args:
            examples: `[examples, *shape]`, also none; numbers that the model's dtype can hold.

        Returns:
            float32 `[examples, classes]`.

        Raises:
            BadInput: the shape is another, or a value is NaN, infinite or out of range.
            NonFinite: the model's output is.
        """
        if not isinstance(examples, np.ndarray):
            examples = np.asarray(examples)
        array_inputs.check_shape(examples, self.shape)
        if self.largest and examples.size and examples.max() > self.largest:
            raise BadInput(f"a value is {examples.max():g}, expected 0 to {self.largest:g} as in the training data")
        starts = range(0, len(examples), _SIZES[-1])
        found = [self._batch(examples[first : first + _SIZES[-1]], first) for first in starts]
        return np.concatenate([np.zeros((0, len(self.classes)), np.float32), *found])

    def prepared(self, examples: np.ndarray) -> np.ndarray:
        """The examples as the model takes them: of its dtype; see `logits` for what is raised."""
        array_inputs.check_shape(examples, self.shape)
        return array_inputs.numbers(examples, self.dtype, 0)

    def read(self, path: str | Path) -> np.ndarray:
        """The examples of a file; see `inputs.read`."""
        return array_inputs.read(path, self.shape, self.dtype, self.features)

    def lines(self, stream: Iterable[bytes]) -> Iterator[array_inputs.Line]:
        """The examples of a stream; see `inputs.lines`."""
        return array_inputs.lines(stream, self.shape, self.dtype)

    def _batch(self, examples: np.ndarray, first: int) -> np.ndarray:
        size = next(size for size in _SIZES if size >= len(examples))
        padded = np.zeros((size, *self.shape), self.dtype)
        padded[: len(examples)] = array_inputs.numbers(examples, self.dtype, first)

        def compiled() -> np.ndarray:
            return self._forward(tf.constant(padded)).numpy()[: len(examples)].astype(np.float32)

        found = self.lite(["x"], [padded], compiled) if self.lite and size == 1 else compiled()
        wrong = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(wrong):
            raise NonFinite(
                f"the model's output for example {first + wrong[0]} is not finite; expected a trained model"
            )
        return found


def evaluate(
    workdir: str | Path,
    dataset: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    pair_column: str | None = None,
    weight_column: str | None = None,
) -> dict[str, float]:
    """Judges a run's model on examples that it was not trained on.

    Args:
        workdir: of the run.
        dataset: None for the test split of the run's own data set. Else a name, whose test split is used, or a file of
            one's own, all of whose examples are used (unless the run was trained on it: then its test split). A
            table's columns are found by name; what is passed over is said on stderr. It may lack classes of the model.
        text_column: of such a file, for a run on texts; None for the run's own.
        label_column: likewise, and of a table.
        pair_column: likewise, for a run on pairs of texts.
        weight_column: of a table; None for the run's own where the table has it, empty for no weights.

    Returns:
        `examples`, `loss` (cross-entropy) and `accuracy`, both weighted where the data has weights; without weights
        `accuracy_low` and `accuracy_high` besides, the 95 % interval of Wilson (1927). Of a run on texts more, see
        `text_evaluation.evaluate` and `tag_evaluation.evaluate`.

    Raises:
        ZooError: the folder, the data set, or the two do not fit each other.
    """
    predictor = load(workdir)
    run = folders.read_json(configs.absolute(workdir), folders.RUN)
    if not isinstance(run, dict) or not isinstance(run.get("config"), dict):
        raise BadInput(f"{configs.absolute(workdir) / folders.RUN} holds no config; restore it or train again")
    columns = {"text_column": text_column, "label_column": label_column, "pair_column": pair_column}
    if weight_column is not None and not isinstance(predictor, Predictor):
        raise BadInput(f"{workdir} holds no model for tables: expected no --weight_column")
    if isinstance(predictor, (TextPredictor, ValuePredictor)):
        return text_evaluation.evaluate(predictor, run, dataset, **columns)
    if isinstance(predictor, Predictor):
        columns.pop("label_column")
    if any(columns.values()):
        given = " and ".join(f"no --{name}" for name in columns)
        raise BadInput(f"{workdir} holds no model for texts with labels: expected {given}")
    if isinstance(predictor, TagPredictor):
        return tags.evaluate(predictor, run, dataset)
    if isinstance(predictor, GapPredictor):
        raise BadInput(
            f"{workdir} holds a pretrained encoder, whose test stands in {folders.RESULT}; fine-tune it first"
        )
    dataset = dataset or run["config"].get("dataset")
    if not dataset:
        raise BadInput(f"{configs.absolute(workdir) / folders.RUN} names no data set; expected one with --dataset")
    parts = _examples(dataset, run, predictor, label_column, weight_column)
    try:
        judged = [_judged(predictor, columns) for columns in parts]
    except BadInput as error:
        raise BadInput(f"--dataset {dataset}: {error}") from None
    losses, correct, weights = (np.concatenate(column) for column in zip(*judged))
    weighted = any("weight" in columns for columns in parts)
    return _summary(losses, correct, weights, weighted, dataset)


def read_model(path: Path) -> keras.Model:
    """The model that a run left.

    Raises:
        BadInput: it is not there, or cannot be read.
    """
    if not path.is_file():
        raise BadInput(f"{path.parent} has no {path.name}: expected the --workdir of a finished run")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:
        # A flipped bit can surface anywhere in zip, JSON, HDF5 or Keras; all of it means the same to a user.
        raise BadInput(f"{path} cannot be read ({array_inputs.one_line(error)}); restore it or train again") from error


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share of `trials` independent yes-or-no outcomes (Wilson, 1927)."""
    share, extra = successes / trials, _Z**2 / trials
    center = (share + extra / 2) / (1 + extra)
    half = math.sqrt(extra * (share * (1 - share) + extra / 4)) / (1 + extra)
    return max(0.0, center - half), min(1.0, center + half)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _examples(
    dataset: str, run: dict[str, Any], predictor: Predictor, label_column: str | None, weight_column: str | None
) -> list[Columns]:
    """The parts of a data set to judge by, their labels as places among the model's classes."""
    config = run["config"]
    own = dataset == config.get("dataset")
    # The run's own as it was typed, in the folder where it was typed.
    path = Path(run.get("folder", "."), Path(dataset).expanduser()) if own else configs.absolute(dataset)
    if dataset in images.NAMES or path.suffix not in csv_tables.SUFFIXES:
        for name, given in (("label_column", label_column), ("weight_column", weight_column)):
            if given is not None:
                raise BadInput(f"--{name} is for tables, --dataset {dataset} is none: leave the flag out")
    if dataset in images.NAMES:
        loaded = images.load(dataset)
        places = tables.places(f"--dataset {dataset}", loaded.classes, predictor.classes)
        return [loaded.test | {"y": places[loaded.test["y"]]}]
    run_weights = config.get("weight_column", "") if weight_column is None else ""
    known = tables.Known(predictor.classes, predictor.features, run_weights)
    columns = label_column or config.get("label_column", "label"), weight_column or ""
    if own or not path.exists():
        parts = [images.load(str(path) if own else dataset, *columns, known).test]
    else:
        parts = _of_file(path, columns, known, run)
    for note in known.notes:
        print(f"zoo: {note}", file=sys.stderr)
    return parts


def _of_file(path: Path, columns: tuple[str, str], known: tables.Known, run: dict[str, Any]) -> list[Columns]:
    loaded = tables.load(path, *columns, known)
    distinct = loaded if isinstance(loaded.train["x"], np.memmap) else splits.without_overlap(loaded)
    if _was_trained_on(distinct, run):
        return [distinct.test]
    return [loaded.train, loaded.validation, loaded.test]


def _was_trained_on(loaded: Splits, run: dict[str, Any]) -> bool:
    """Whether this is the run's data set by its contents: under another path or name it is still the same."""
    more = run["config"].get("more_file")
    if more:
        try:
            loaded = extra_examples.arrays(loaded, str(Path(run.get("folder", "."), Path(more).expanduser())))
        except BadInput:
            # Of other shapes or classes than what the run has learned from.
            return False
    if not len(loaded.train["y"]):
        return False
    batches = Batches(loaded.train, run["config"].get("batch_size", 1), seed=run["config"].get("seed"))
    return batches.fingerprint() == run.get("identity", {}).get("training data")


def _judged(predictor: Predictor, columns: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cross-entropy, whether correct, and weight, each `[examples]`."""
    labels = columns["y"]
    wrong = np.flatnonzero((labels < 0) | (labels >= len(predictor.classes)))
    if len(wrong):
        raise BadInput(f"label {labels[wrong[0]]}, expected 0 to {len(predictor.classes) - 1}")
    logits = predictor.logits(columns["x"])
    losses = -np.take_along_axis(_log_softmax(logits), labels[:, None], axis=1)[:, 0]
    return losses, logits.argmax(axis=1) == labels, columns.get("weight", np.ones(len(labels), np.float32))


def _summary(losses: np.ndarray, correct: np.ndarray, weights: np.ndarray, weighted: bool, dataset: str) -> dict:
    if not weights.sum() > 0:
        raise BadInput(f"--dataset {dataset}: there is no example, or all weights are 0; expected one that counts")
    result = {
        "examples": len(losses),
        "loss": float(np.average(losses, weights=weights)),
        "accuracy": float(np.average(correct, weights=weights)),
    }
    if not weighted:
        result["accuracy_low"], result["accuracy_high"] = wilson(int(correct.sum()), len(correct))
    return result
