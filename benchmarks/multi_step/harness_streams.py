"""Streams of the harness: the order of the test examples, and what has happened to them.

Every stream is made of test examples alone. Blocks are the unit that the bootstrap draws: a burst, the repetitions of
one example, or a whole short stream; else an example.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks.multi_step.harness_shifts import Shift

# Label of a class that the model does not know; such examples are answered, but not scored.
UNKNOWN = -1
# The batch size of `zoo predict` is 200; half of it lets a stream of this length adapt several times.
_BATCH = 100
_ALPHA = 0.3
_BURST = (5, 100)
_REPEATED, _DISTINCT = 20, 12
_SINGLE, _TINY = 25, 5


class Stream(NamedTuple):
    """One stream.

    Attributes:
        examples: in their order, as the predictor takes them.
        labels: int `[examples]`, `UNKNOWN` for a class that the model does not know.
        blocks: int `[examples]`, the same for examples that are drawn together.
        batch: examples that are answered at a time.
    """

    examples: Any
    labels: np.ndarray
    blocks: np.ndarray
    batch: int = _BATCH


class Pool(NamedTuple):
    """Test examples to draw from, their labels `[examples]`, the shifts by name, and the longest stream."""

    examples: Any
    labels: np.ndarray
    shifts: Mapping[str, Shift]
    longest: int


# The index of the examples in their order, and their blocks.
_Order = tuple[np.ndarray, np.ndarray]


def names(pool: Pool) -> list[str]:
    """Names of the streams that this pool allows."""
    shifted = list(pool.shifts)
    # Each kind of shift also sorted by class and with other class proportions, where that says most.
    both = [f"{shifted[0]}, sorted", f"{shifted[0]}, label shift"] + [f"{name}, sorted" for name in shifted[1:2]]
    new = ["new classes"] * bool((pool.labels == UNKNOWN).any())
    return [*_ORDERS, *new, *shifted, *both, "changing"]


def streams(pool: Pool, name: str, seed: int) -> Iterator[Stream]:
    """The streams of one name; several independent ones where one says little."""
    for draw in range(_DRAWS.get(name.split(", ")[-1], 1)):
        yield _stream(pool, name, np.random.default_rng([seed, draw, *name.encode()]))


def _stream(pool: Pool, name: str, random: np.random.Generator) -> Stream:
    shift, _, order = name.rpartition(", ") if ", " in name else ("", "", name)
    if name in pool.shifts:
        shift, order = name, "clean"
    known = np.flatnonzero(pool.labels != UNKNOWN)
    if order == "new classes":
        index = random.permutation(len(pool.labels))[: pool.longest]
        index, blocks = index, np.arange(len(index))
    elif order == "changing":
        index = random.permutation(known)[: pool.longest]
        blocks = np.arange(len(index))
    else:
        index, blocks = _ORDERS[order](pool.labels, random, known, pool.longest)
    x, labels = _taken(pool.examples, index), pool.labels[index]
    if order == "changing":
        x = _changing(x, next(iter(pool.shifts.values())), random)
    elif shift:
        x = pool.shifts[shift](x, random)
    return Stream(x, labels, blocks, {"single": 1, "tiny": _TINY}.get(order, _BATCH))


def _changing(x: Any, shift: Shift, random: np.random.Generator) -> Any:
    """A clean third, a shifted one, and a clean one."""
    ends = len(x) // 3, 2 * len(x) // 3
    parts = x[: ends[0]], shift(x[ends[0] : ends[1]], random), x[ends[1] :]
    return np.concatenate(parts) if isinstance(x, np.ndarray) else [each for part in parts for each in part]


def _taken(x: Any, index: np.ndarray) -> Any:
    return x[index] if isinstance(x, np.ndarray) else [x[each] for each in index.tolist()]


def _clean(y: np.ndarray, random: np.random.Generator, known: np.ndarray, longest: int) -> _Order:
    index = random.permutation(known)[:longest]
    return index, np.arange(len(index))


def _sorted(y: np.ndarray, random: np.random.Generator, known: np.ndarray, longest: int) -> _Order:
    """By class, the classes in a random order."""
    index = _clean(y, random, known, longest)[0]
    place = random.permutation(int(y.max()) + 1)
    return index[np.argsort(place[y[index]], kind="stable")], np.arange(len(index))


def _bursts(y: np.ndarray, random: np.random.Generator, known: np.ndarray, longest: int) -> _Order:
    """Five to a hundred examples of one class in a row, as many as the class still has."""
    left = {label: random.permutation(known[y[known] == label]).tolist() for label in np.unique(y[known]).tolist()}
    index: list[int] = []
    blocks: list[int] = []
    while len(index) < longest and any(left.values()):
        label = random.choice([label for label, examples in left.items() if examples])
        size = int(random.integers(*_BURST))
        burst, left[label] = left[label][:size], left[label][size:]
        blocks += [blocks[-1] + 1 if blocks else 0] * len(burst)
        index += burst
    return np.array(index[:longest]), np.array(blocks[:longest])


def _label_shift(y: np.ndarray, random: np.random.Generator, known: np.ndarray, longest: int) -> _Order:
    """Class proportions from a Dirichlet distribution, without an example twice."""
    classes = np.unique(y[known])
    proportions = random.dirichlet(np.full(len(classes), _ALPHA))
    return _drawn(y, random, known, np.tile(proportions, (longest, 1)), classes)


def _label_drift(y: np.ndarray, random: np.random.Generator, known: np.ndarray, longest: int) -> _Order:
    """The proportions go from one draw to another along the stream."""
    classes = np.unique(y[known])
    first, last = random.dirichlet(np.full(len(classes), _ALPHA), 2)
    time = np.linspace(0, 1, longest)[:, None]
    return _drawn(y, random, known, (1 - time) * first + time * last, classes)


def _drawn(
    y: np.ndarray, random: np.random.Generator, known: np.ndarray, shares: np.ndarray, classes: np.ndarray
) -> _Order:
    """Examples of classes drawn by `shares`, `[time, classes]`, until a class has none left."""
    left = [random.permutation(known[y[known] == label]).tolist() for label in classes]
    index = []
    for row in shares:
        label = int(random.choice(len(classes), p=row / row.sum()))
        if not left[label]:
            break
        index.append(left[label].pop())
    return np.array(index), np.arange(len(index))


def _repeated(y: np.ndarray, random: np.random.Generator, known: np.ndarray, longest: int) -> _Order:
    """Each example twenty times in a row."""
    chosen = random.permutation(known)[: max(1, longest // _REPEATED)]
    return np.repeat(chosen, _REPEATED), np.repeat(np.arange(len(chosen)), _REPEATED)


def _few_distinct(y: np.ndarray, random: np.random.Generator, known: np.ndarray, longest: int) -> _Order:
    """A dozen examples again and again, in random order."""
    blocks = random.integers(0, _DISTINCT, longest)
    return random.permutation(known)[:_DISTINCT][blocks], blocks


def _single(y: np.ndarray, random: np.random.Generator, known: np.ndarray, longest: int) -> _Order:
    return _clean(y, random, known, _SINGLE)


def _tiny(y: np.ndarray, random: np.random.Generator, known: np.ndarray, longest: int) -> _Order:
    index = _clean(y, random, known, _TINY)[0]
    return index, np.zeros(len(index), int)


_ORDERS: dict[str, Callable[..., _Order]] = {
    "clean": _clean,
    "sorted": _sorted,
    "bursts": _bursts,
    "label shift": _label_shift,
    "label drift": _label_drift,
    "repeated": _repeated,
    "few distinct": _few_distinct,
    "single": _single,
    "tiny": _tiny,
}
# Independent streams of a name: one draw of proportions, or five examples, says little.
_DRAWS = {"label shift": 3, "label drift": 2, "few distinct": 3, "tiny": 12}
