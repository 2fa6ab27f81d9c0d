"""The answers on a run's test examples as a table, test/predictions.csv: what a cross-validation puts together."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from zoo import files
from zoo.data.splits import Origins
from zoo.errors import BadInput
from zoo.experiment import Predictions
from zoo.metrics.logits import class_probabilities
from zoo.names import escaped, keys

NAME = "predictions.csv"
PROBABILITY, TRUE = "probability ", "true "


def of_classes(
    origins: Origins | None, classes: Sequence[str], texts: Sequence[str] | None = None
) -> Predictions | None:
    """An `Experiment.predictions` of a classifier: label, prediction and the probability of each class.

    Args:
        origins: where the test examples come from; without it there is no table.
        classes: class names in the order of the labels.
        texts: the test examples, of a classifier of texts.
    """
    if origins is None:
        return None

    def table(outputs, columns) -> dict[str, Sequence[Any]]:
        probabilities = class_probabilities(outputs["logits"])  # [examples, classes]
        result = _start(origins, texts)
        result["label"] = [classes[label] for label in np.asarray(columns["y"]).tolist()]
        result["prediction"] = [classes[label] for label in probabilities.argmax(axis=1).tolist()]
        result |= _weight(columns)
        # Two classes may look alike; columns have names of their own.
        return result | {f"{PROBABILITY}{name}": probabilities[:, k].tolist() for k, name in enumerate(keys(classes))}

    return table


def of_labels(origins: Origins | None, labels: Sequence[str], texts: Sequence[str] | None = None) -> Predictions | None:
    """An `Experiment.predictions` of a multi-label classifier: each label's true value, 1 or 0, and its probability.

    Before them stand the names of the true labels and of the predicted ones, from a probability of 0.5 on.

    Args:
        origins: where the test examples come from; without it there is no table.
        labels: names of the labels.
        texts: the test examples, of a classifier of texts.
    """
    if origins is None:
        return None

    def table(outputs, columns) -> dict[str, Sequence[Any]]:
        probabilities = special.expit(np.asarray(outputs["logits"], np.float64))  # [examples, labels]
        true = np.asarray(columns["y"]) > 0
        result = _start(origins, texts)
        for name, has in (("label", true), ("prediction", probabilities >= 0.5)):
            result[name] = ["|".join(labels[k] for k in np.flatnonzero(row)) for row in has]
        result |= _weight(columns)
        result |= {f"{TRUE}{name}": true[:, k].astype(int).tolist() for k, name in enumerate(keys(labels))}
        return result | {f"{PROBABILITY}{name}": probabilities[:, k].tolist() for k, name in enumerate(keys(labels))}

    return table


def of_values(
    origins: Origins | None, scale: float, centre: float, texts: Sequence[str] | None = None
) -> Predictions | None:
    """An `Experiment.predictions` of a regression: label and prediction in the values' own units.

    Args:
        origins: where the test examples come from; without it there is no table.
        scale: size of one unit of the network in the values' own units.
        centre: the value that 0 represents.
        texts: the test examples, of a regression of texts.
    """
    if origins is None:
        return None

    def table(outputs, columns) -> dict[str, Sequence[Any]]:
        predicted, true = (
            np.asarray(each, np.float64) * scale + centre for each in (outputs["logits"][:, 0], columns["y"])
        )
        # The nearest float32, in which values are read.
        labels = true.astype(np.float32).tolist()
        return _start(origins, texts) | {"label": labels, "prediction": predicted.tolist()} | _weight(columns)

    return table


def _start(origins: Origins, texts: Sequence[str] | None) -> dict[str, Sequence[Any]]:
    return {origins.kind: origins.values.tolist()} | ({} if texts is None else {"text": texts})


def _weight(columns: Mapping[str, np.ndarray]) -> dict[str, Sequence[Any]]:
    return {"weight": columns["weight"].tolist()} if "weight" in columns else {}


def write(path: Path, table: Mapping[str, Sequence[Any]]) -> None:
    """Writes a table as .csv in UTF-8; numbers are read back as they were, bit for bit."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([escaped(name) for name in table])
    writer.writerows(zip(*table.values(), strict=True))
    path.parent.mkdir(exist_ok=True)
    files.write(path, text.getvalue())


def read(path: Path) -> dict[str, list[str]]:
    """Reads a table that `write` has written, as texts.

    Raises:
        BadInput: it is missing or torn.
    """
    try:
        # A text may be longer than what the module allows for a field.
        csv.field_size_limit(2**31 - 1)
        with path.open(encoding="utf8", newline="") as file:
            header, *rows = csv.reader(file)
        return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read ({error}); remove its fold, and it is trained again") from None
