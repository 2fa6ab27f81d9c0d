"""Folds of cross-validation: every example is tested once, copies and groups stay together, classes are spread evenly.

The folds depend on the data alone, never on a run's seed: runs with other seeds or flags have the same ones, so their
results can be compared fold by fold.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from zoo.data import duplicates, shuffling, splits
from zoo.data.splits import Columns
from zoo.errors import BadInput
from zoo.names import escaped

TRAIN, VALIDATION, TEST = 0, 1, 2
# A ninth of what a fold leaves: with ten folds a tenth of all, as where there are none.
_VALIDATION_PARTS = 9
# Values are spread over the folds by their tenths.
_BINS = 10
# Groups of a class from which on each part surely has some of them.
_MANY = 100


class Fold(NamedTuple):
    """A fold to test on: `number` from 1 to `count`."""

    number: int
    count: int


def cut(columns: Mapping[str, np.ndarray], fold: Fold, classes: Sequence[str], source: str) -> list[Columns]:
    """Training, validation and test columns of the run that tests on a fold.

    Args:
        columns: `x`, `y` (classes, or values) and others, `[examples, ...]`. The column `splits.SPLIT`, if it is there,
            names the group of each example, and is left out of the parts.
        fold: the fold to test on.
        classes: class names; empty where `y` are values.
        source: the data set, for messages.

    Raises:
        BadInput: there are fewer groups than folds, a class is too rare, or `x` is too large for memory.
    """
    if isinstance(columns["x"], np.memmap):
        raise BadInput(f"--folds={fold.count}: {source} is read from disk as needed; expected data that fit in memory")
    columns = dict(columns)
    groups = linked(columns["x"], columns.pop(splits.SPLIT, None))
    # A label that a fold's run would not learn from is a warning of that run.
    named = classes if columns["y"].ndim == 1 else ()
    part = parts(groups, strata(columns["y"], classes), fold, named, source)
    return [{name: column[part == each] for name, column in columns.items()} for each in (TRAIN, VALIDATION, TEST)]


def described(fold: Fold, train: int, validation: int, test: int) -> str:
    """A line on the sizes of the parts."""
    sizes = f"{train:,} examples to learn from, {validation:,} for validation, {test:,} for the test"
    return f"fold {fold.number} of {fold.count}: {sizes}"


def linked(x: np.ndarray, names: np.ndarray | None = None) -> np.ndarray:
    """The number of each example's group, int `[examples]`: copies are in one, and examples of the same name.

    Examples that chance alone makes equal are no copies; see `zoo.data.duplicates`.
    """
    keys = splits.keys(x)
    copied = duplicates.copies(x, keys)
    own = numbered([key if key in copied else place for place, key in enumerate(keys)])
    if names is None:
        return own
    from scipy import sparse
    from scipy.sparse import csgraph

    # A copy of an example of another group joins the two groups.
    named = numbered(names.tolist()) + own.max(initial=-1) + 1
    size = int(named.max(initial=-1)) + 1
    edges = sparse.coo_array((np.ones(len(own), bool), (own, named)), shape=(size, size))
    return numbered(csgraph.connected_components(edges, directed=False)[1][own].tolist())


def numbered(keys: Sequence[Hashable]) -> np.ndarray:
    """A number for each key, from 0 in the order in which they occur; equal for equal keys."""
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(key, len(first)) for key in keys], int)


def strata(y: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """What is spread evenly over the folds, int `[examples]`: the classes, or tenths of the values.

    Of several labels `[examples, labels]` the rarest that an example has, as the others are spread by their number.
    """
    if np.ndim(y) == 2:
        rarest = np.argsort(y.sum(axis=0), kind="stable")
        return np.where(y.any(axis=1), np.argmax(y[:, rarest] > 0, axis=1), len(rarest))
    if classes:
        return np.asarray(y, int)
    ranks = np.argsort(np.argsort(y, kind="stable"), kind="stable")
    return ranks * _BINS // max(len(y), 1)


def parts(groups: np.ndarray, kinds: np.ndarray, fold: Fold, classes: Sequence[str], source: str) -> np.ndarray:
    """The part of each example in the run that tests on a fold: TRAIN, VALIDATION or TEST, int `[examples]`.

    Args:
        groups: number of each example's group.
        kinds: what is spread evenly, from `strata`.
        fold: the fold to test on.
        classes: class names; empty where there are values.
        source: the data set, for messages.

    Raises:
        BadInput: there are too few groups, or a class that a fold's run would not be trained on.
    """
    different = int(groups.max(initial=-1)) + 1
    if different < max(fold.count, 3):
        raise BadInput(
            f"--folds={fold.count}: {source} has {different} examples or groups of them that are not copies of each "
            f"other; expected {max(fold.count, 3)} or more"
        )
    assigned = assign(groups, kinds, fold.count)
    _check_classes(groups, kinds, assigned, fold.count, classes, source)
    return _parts(groups, kinds, assigned, fold.number - 1)


def _parts(groups: np.ndarray, kinds: np.ndarray, assigned: np.ndarray, tested: int) -> np.ndarray:
    result = np.full(len(groups), TRAIN)
    result[assigned == tested] = TEST
    rest = np.flatnonzero(assigned != tested)
    within = np.unique(groups[rest], return_inverse=True)[1]
    inner = assign(within, kinds[rest], min(_VALIDATION_PARTS, int(within.max()) + 1))
    result[rest[inner == 0]] = VALIDATION
    return result


def _check_classes(
    groups: np.ndarray, kinds: np.ndarray, assigned: np.ndarray, count: int, classes: Sequence[str], source: str
) -> None:
    """Refuses a class that the run of some fold would not be trained on: before the first fold, not after hours."""
    pairs = np.unique(np.stack([kinds, groups]), axis=1)
    if not classes or np.bincount(pairs[0], minlength=len(classes)).min() >= _MANY * count:
        return
    present = np.bincount(kinds, minlength=len(classes)) > 0
    for tested in range(count):
        trained = np.bincount(kinds[_parts(groups, kinds, assigned, tested) == TRAIN], minlength=len(classes)) > 0
        for missing in np.flatnonzero(present & ~trained)[:1]:
            name = escaped(str(classes[missing]))
            raise BadInput(
                f"--folds={count}: {source} has {int((kinds == missing).sum())} examples of the class {name!r}, of "
                f"which the run that tests on fold {tested + 1} would learn from none; expected 3 different ones or "
                "more, or leave the class out"
            )


def assign(groups: np.ndarray, kinds: np.ndarray, count: int) -> np.ndarray:
    """A part from 0 to `count` - 1 for each example: groups are whole, each kind is spread as evenly as they allow.

    Groups of several examples come first, the largest first, each to the part that lacks its kinds most. Single
    examples then level each kind out.

    Args:
        groups: number of each example's group, `[examples]`.
        kinds: int from 0, `[examples]`.
        count: number of parts.
    """
    sizes = np.bincount(groups)
    order = shuffling.shuffled(np.arange(len(sizes)), len(sizes), seed=0, epoch=0)
    tally = np.zeros((count, int(kinds.max(initial=0)) + 1))
    of_group = np.zeros(len(sizes), int)
    _deal_groups(groups, kinds, order, of_group, tally)
    kind_of = np.zeros(len(sizes), int)
    kind_of[groups] = kinds
    singles = order[sizes[order] == 1]
    for kind in np.unique(kind_of[singles]):
        members = singles[kind_of[singles] == kind]
        of_group[members] = chosen = _levelled(tally[:, kind], tally.sum(axis=1), len(members))
        tally[:, kind] += np.bincount(chosen, minlength=count)
    return of_group[groups]


def _deal_groups(groups: np.ndarray, kinds: np.ndarray, order: np.ndarray, of_group: np.ndarray, tally) -> None:
    """Gives each group of several examples to a part; fills `of_group` and `tally` `[parts, kinds]`."""
    sizes = np.bincount(groups)
    several = order[sizes[order] > 1]
    several = several[np.argsort(-sizes[several], kind="stable")]
    ideal = np.bincount(kinds, minlength=tally.shape[1]) / len(tally)
    by_group = np.argsort(groups, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    for group in several.tolist():
        own, counts = np.unique(kinds[by_group[starts[group] : starts[group + 1]]], return_counts=True)
        # How much the squared distance from an even spread grows; the smaller part wins a tie.
        growth = ((2 * (tally[:, own] - ideal[own]) + counts) * counts / ideal[own]).sum(axis=1)
        chosen = np.lexsort((tally.sum(axis=1), growth))[0]
        of_group[group] = chosen
        tally[chosen, own] += counts


def _levelled(counts: np.ndarray, totals: np.ndarray, examples: int) -> np.ndarray:
    """The part of each of so many examples of one kind: always one with the fewest of the kind, `[examples]`.

    Args:
        counts: examples of the kind that each part has, `[parts]`.
        totals: all examples that each part has; the smaller part comes first where it has as many of the kind.
        examples: how many more there are.
    """
    most = examples // len(counts) + 1 + int(np.ptp(counts))
    levels = counts[:, None] + np.arange(most)  # [parts, most]
    ranks = np.broadcast_to(np.argsort(np.argsort(totals, kind="stable"), kind="stable")[:, None], levels.shape)
    return np.lexsort((ranks.ravel(), levels.ravel()))[:examples] // most
