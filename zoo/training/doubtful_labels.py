"""`--find_label_errors`: labels of a cross-validation that are probably wrong, as a table, label_errors.csv."""

import collections
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo import files
from zoo.data.datasets import text_columns
from zoo.errors import BadInput
from zoo.metrics import label_errors
from zoo.metrics.label_errors import LabelErrors
from zoo.names import escaped
from zoo.training import test_predictions

NAME = "label_errors.csv"
# Pairs of classes that are printed.
_PAIRS = 5


def write(
    workdir: Path, table: Mapping[str, Sequence], labels: np.ndarray, probabilities: np.ndarray, config: Any
) -> LabelErrors:
    """Finds the doubtful labels and writes them.

    Args:
        workdir: folder of the cross-validation.
        table: its predictions, from `cross_validation.join`.
        labels: given labels, int `[examples]`.
        probabilities: out-of-fold probabilities, `[examples, classes]`.
        config: config of the runs; a table's own columns are read from its file.

    Returns:
        What was found.
    """
    found = label_errors.find(labels, probabilities)
    names = dict(zip(labels.tolist(), table["label"]))
    test_predictions.write(workdir / NAME, rows(table, found, names) | _own_columns(table, found.rows, config))
    return found


def rows(table: Mapping[str, Sequence], found: LabelErrors, names: Mapping[int, str]) -> dict[str, list]:
    """The columns of label_errors.csv, but for those of the source's own table."""
    kind, picked = next(iter(table)), found.rows.tolist()
    result = {kind: [table[kind][row] for row in picked]}
    result["label"] = [table["label"][row] for row in picked]
    result["suggested_label"] = [names[label] for label in found.suggested.tolist()]
    result["self_confidence"] = found.self_confidence[found.rows].tolist()
    result["margin"] = found.margin[found.rows].tolist()
    if "text" in table:
        result["text"] = [table["text"][row] for row in picked]
    return result


def report(found: LabelErrors, classes: Sequence[str], path: Path, given: np.ndarray) -> str:
    """A few lines for the terminal: how many, and between which classes most of them."""
    count, examples = len(found.rows), len(found.margin)
    lines = [f"label errors: {count:,} of {examples:,} labels are doubtful ({count / examples:.1%}): {path}"]
    pairs = collections.Counter(zip(given[found.rows].tolist(), found.suggested.tolist()))
    for (label, other), number in pairs.most_common(_PAIRS):
        lines.append(f"  {number:,} labelled {escaped(classes[label])!r} that are probably {escaped(classes[other])!r}")
    return "\n".join(lines)


def _own_columns(table: Mapping[str, Sequence], picked: np.ndarray, config: Any) -> dict[str, list]:
    """The columns of a table's file in these rows, with "column " before their names."""
    path = files.absolute_list(getattr(config, "dataset", "") or "")
    if "text" in table or not (all(each.is_file() for each in files.listed(path)) and text_columns.is_table(path)):
        return {}
    read = text_columns.read(path, config.file_format())
    kind = next(iter(table))
    place_of = {place: row for row, place in enumerate(read.origins().values.tolist())}
    places = [int(table[kind][row]) for row in picked.tolist()]
    if any(place not in place_of for place in places):
        raise BadInput(f"{path} has changed since the runs of the folds; put it back, or choose another --workdir")
    own = [place_of[place] for place in places]
    return {f"column {name}": read.columns[name].take(own).to_pylist() for name in read.header}
