"""Labels of arrays (`y` of a .npz or a folder): class ids, names, or one column per class (one-hot)."""

from collections.abc import Sequence

import numpy as np

from zoo.data.datasets import class_labels, table_columns
from zoo.data.splits import shortened
from zoo.errors import BadInput

_EXPECTED = "expected class ids or names [examples], or one 1 in each row of [examples, classes]"


def plain(y: np.ndarray, source: str) -> np.ndarray:
    """Labels as whole numbers or texts `[examples]`.

    Args:
        y: class ids (of any type of numbers), names, or one-hot rows `[examples, classes]`; `[examples, 1]` is
            `[examples]`.
        source: name of the array, for messages.

    Raises:
        BadInput: other arrays: fractions, several classes of one example, missing labels.
    """
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf8", "replace")
    if y.ndim == 2 and y.dtype.kind in "fiub":
        return _from_one_hot(y, source)
    if y.ndim != 1 or y.dtype.kind not in "fiubU":
        raise BadInput(f"{source} is {y.dtype}{list(y.shape)}; {_EXPECTED}")
    if y.dtype.kind == "f":
        finite = np.isfinite(y)
        if not finite.all():
            raise BadInput(f"{source}[{int(np.argmin(finite))}] is {y[~finite][0]}, a missing label; {_EXPECTED}")
        if len(y) and not np.array_equal(y, np.round(y)):
            raise BadInput(
                f"{source} has fractions such as {y[y != np.round(y)][0]:g}: this looks like regression; expected "
                "whole numbers [examples]: train experiments.mlp_regressor on it, or cut the values into a few classes"
            )
    if y.dtype.kind == "U":
        missing = [index for index, label in enumerate(y) if class_labels.is_missing(str(label))]
        if missing:
            raise BadInput(f"{source}[{missing[0]}] is {str(y[missing[0]])!r}, a missing label; expected a class")
        return y
    return y.astype(np.int64)


def values(y: np.ndarray, source: str) -> np.ndarray:
    """Values to predict, float32 `[examples]`, from numbers `[examples]` or `[examples, 1]`.

    Raises:
        BadInput: other arrays, or a value that is not finite.
    """
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or y.dtype.kind not in "fiub":
        raise BadInput(f"{source} is {y.dtype}{list(y.shape)}; expected a number for each example, [examples]")
    wrong = np.flatnonzero(~np.isfinite(y.astype(np.float32)))
    if len(wrong):
        raise BadInput(f"{source}[{wrong[0]}] is {y[wrong[0]]}; expected finite numbers")
    return y.astype(np.float32)


def classes(labels: np.ndarray, source: str, notes: list[str]) -> tuple[str, ...]:
    """Names of the classes of plain labels; numbers keep their order, and only those that occur are classes.

    Raises:
        BadInput: negative ids (other than -1 and 1 for two classes), or numbers that are values instead of classes.
    """
    if not len(labels):
        return ()
    if labels.dtype.kind == "U":
        names, doubts = class_labels.classes(map(str, labels), source)
        notes.extend(doubts)
        return names
    found = np.unique(labels)
    if found[0] < 0 and found.tolist() != [-1, 1]:
        raise BadInput(
            f"{source}: label {found[0]} at example {int(np.argmin(labels))}; expected ids from 0 on, or -1 "
            "and 1; where a negative one marks a missing label, leave such examples out"
        )
    table_columns.refuse_values([str(label) for label in labels], f"{source}: y")
    if found[0] >= 0 and found[-1] - found[0] + 1 > len(found):
        notes.append(
            f"{source}: the class ids have gaps; the {len(found)} classes are {shortened(list(map(str, found)))}"
        )
    return tuple(map(str, found))


def indices(labels: np.ndarray, names: Sequence[str], source: str, may_be_indices: bool) -> np.ndarray:
    """Index of each plain label's class, int32 `[examples]`.

    Args:
        labels: plain labels.
        names: names of the classes.
        source: name of the array, for messages.
        may_be_indices: whether ids that are no names may be indices into `names`.

    Raises:
        BadInput: a label is none of the classes.
    """
    different, place = np.unique(labels, return_inverse=True)
    found = class_labels.indices([str(label) for label in different], names)
    if may_be_indices and labels.dtype.kind != "U" and (found < 0).any():
        found = np.where((different >= 0) & (different < len(names)), different, -1).astype(np.int32)
    unknown = [str(label) for label in different[found < 0]]
    if unknown:
        first = int(np.argmax(labels == different[found < 0][0]))
        raise BadInput(
            f"{source} label {unknown[0]} at example {first}; expected 0 to {len(names) - 1}"
            if list(names) == list(map(str, range(len(names))))
            else f"{source} label {unknown[0]} at example {first}; expected one of {shortened(list(names))}"
        )
    return found[place].astype(np.int32)


def _from_one_hot(y: np.ndarray, source: str) -> np.ndarray:
    is_hot = y != 0
    if not np.isin(y, (0, 1)).all():
        raise BadInput(f"{source} is {y.dtype}{list(y.shape)} with other numbers than 0 and 1; {_EXPECTED}")
    count = is_hot.sum(axis=1)
    if (count != 1).any():
        row = int(np.argmax(count != 1))
        raise BadInput(
            f"{source}[{row}] has {count[row]} classes: several labels per example (multi-label) are for "
            f"experiments.mlp_multilabel; {_EXPECTED}"
        )
    return is_hot.argmax(axis=1).astype(np.int64)
