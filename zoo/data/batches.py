"""Batches of examples: a batch is a pure function of the step."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from zoo.data import bucketing, mapped_files, shuffling, spool
from zoo.data.class_balance import BalancedDraws
from zoo.errors import BadInput

# Bytes of a file that are in memory while it is hashed.
_HASHED_BYTES = 1 << 26


@dataclasses.dataclass(frozen=True, eq=False)
class Batches:
    """Columns of examples, cut into batches in an order that is a function of (seed, epoch).

    The last batch of an epoch may be short: its missing rows have weight 0. No example is dropped or repeated, unless
    `balance` asks for it.
    Arrays in memory are gathered by index inside the compiled loop; memory-mapped arrays (`np.memmap`) are prefetched
    batch by batch in the same order.

    Where examples are sequences (`lengths` is set), batches hold examples of similar length and are cut to one of a
    few widths, which saves padding and compilations: see `zoo.data.bucketing`.

    Attributes:
        columns: name -> `[examples, ...]`, all of the same length.
        batch_size: examples per *global* batch.
        seed: seed of the shuffled order; None keeps the order of the columns (evaluation).
        lengths: int `[examples]`, sequence lengths; None where all examples have one shape.
        widths: widths that a batch of sequences may be cut to, ascending; the last one fits every sequence.
        sequences: names of the columns `[examples, time, ...]` that are cut.
        balance: int `[examples]`, the class of each example: an epoch draws as many examples as there are, every class
            equally often (`zoo.data.class_balance.BalancedDraws`). None: each example once.
    """

    columns: Mapping[str, np.ndarray]
    batch_size: int
    seed: int | None = None
    lengths: np.ndarray | None = None
    widths: Sequence[int] = ()
    sequences: Sequence[str] = ()
    balance: np.ndarray | None = None

    def __post_init__(self):
        sizes = {name: len(column) for name, column in self.columns.items()}
        if len(set(sizes.values())) != 1:
            raise BadInput(f"columns differ in length: {sizes}; expected one entry per example in each")
        if 0 in sizes.values():
            raise BadInput(f"columns {sorted(sizes)} are empty: expected at least one example")
        if self.batch_size < 1:
            raise BadInput(f"batch size is {self.batch_size}: expected 1 or more")
        if self.lengths is not None and not int(np.max(self.lengths)) <= max(self.widths, default=0):
            raise BadInput(f"a sequence has {np.max(self.lengths)} entries, the widths are {tuple(self.widths)}")
        if self.balance is not None and (self.seed is None or len(self.balance) != self.examples):
            raise BadInput(
                f"balance has {len(self.balance)} entries, the seed is {self.seed}: expected {self.examples}, one per "
                "example, and a seed, as only a shuffled order draws examples"
            )

    @property
    def examples(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.examples // self.batch_size)

    @property
    def on_disk(self) -> bool:
        return any(isinstance(column, np.memmap) for column in self.columns.values())

    def indices(self, first_step: int, steps: int) -> np.ndarray:
        """Indices of the examples in a range of steps: int32 `[steps, batch_size]`, -1 for padding."""
        rows = [self._epoch_rows(epoch, first, last) for epoch, first, last in self._epochs(first_step, steps)]
        return np.concatenate(rows) if rows else np.zeros((0, self.batch_size), np.int32)

    def width_numbers(self, first_step: int, steps: int) -> np.ndarray:
        """Index into `widths` for each step of a range: int32 `[steps]`; 0 where nothing is cut."""
        if self.lengths is None:
            return np.zeros(steps, np.int32)
        return np.concatenate(
            [self._plans.of(epoch).width_numbers[first:last] for epoch, first, last in self._epochs(first_step, steps)]
        )

    def at(self, step: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The batch of a step: its columns `[batch_size, ...]` and weights float32 `[batch_size]`, 0 for padding."""
        index = self.indices(step, 1)[0]
        return self.cut(self.rows(index), self.width_numbers(step, 1)[0]), (index >= 0).astype(np.float32)

    def cut(self, batch: Mapping[str, Any], number: int) -> dict[str, Any]:
        """Cuts the sequences of a batch (arrays or tensors) to `widths[number]`."""
        return {
            name: value[:, : self.widths[number]] if name in self.sequences else value for name, value in batch.items()
        }

    def rows(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """The columns at example indices; padding (-1) reads example 0."""
        index = np.maximum(index, 0)
        return {name: np.asarray(column[index]) for name, column in self.columns.items()}

    def examples_in(self, first_step: int, steps: int) -> int:
        """Number of examples in a range of steps, without padding."""
        if self.lengths is not None:
            return int((self.indices(first_step, steps) >= 0).sum())
        edges = (
            (first * self.batch_size, last * self.batch_size) for _, first, last in self._epochs(first_step, steps)
        )
        return sum(min(stop, self.examples) - start for start, stop in edges)

    def fingerprint(self) -> str:
        """A hash of the data: all bytes, but of the user's memory-mapped columns, which may be huge, shape and edges.

        A spooled column has the hash of the same column in memory, so a run may be resumed with more or less of it.
        """
        digest = hashlib.sha256(f"{self.batch_size} {self.seed}{''.join(f' {w}' for w in self.widths)}".encode())
        for name, column in sorted(self.columns.items()):
            digest.update(f"{name} {column.dtype} {column.shape}".encode())
            for part in _hashed(column):
                digest.update(_content(part))
                mapped_files.release([part])
        if self.balance is not None:
            digest.update(b"balance" + np.ascontiguousarray(self.balance, np.int64).data)
        return digest.hexdigest()[:16]

    def _epochs(self, first_step: int, steps: int):
        """Cuts a range of steps at epoch boundaries; yields (epoch, first step, end step) relative to the epoch."""
        while steps > 0:
            epoch, first = divmod(first_step, self.steps_per_epoch)
            count = min(steps, self.steps_per_epoch - first)
            yield epoch, first, first + count
            first_step, steps = first_step + count, steps - count

    @functools.cached_property
    def _plans(self) -> bucketing.Plans:
        draw = None if self.balance is None else lambda epoch: self._drawn(np.arange(self.examples), epoch)
        return bucketing.Plans(np.asarray(self.lengths), self.widths, self.batch_size, self.seed, draw)

    @functools.cached_property
    def _draws(self) -> BalancedDraws:
        return BalancedDraws(np.asarray(self.balance), self.seed)

    def _drawn(self, positions: np.ndarray, epoch: int) -> np.ndarray:
        """The examples that a balanced epoch has at its positions, which go on where the epoch before ends."""
        return self._draws.examples(positions.astype(np.int64) + epoch * self.examples)

    def _epoch_rows(self, epoch: int, first: int, last: int) -> np.ndarray:
        if self.lengths is not None:
            return self._plans.of(epoch).rows[first:last]
        start, stop = first * self.batch_size, last * self.batch_size
        positions = np.arange(start, min(stop, self.examples), dtype=np.int32)
        if self.seed is not None:
            positions = shuffling.shuffled(positions, self.examples, self.seed, epoch)
        if self.balance is not None:
            positions = self._drawn(positions, epoch)
        padded = np.full(stop - start, -1, np.int32)
        padded[: len(positions)] = positions
        return padded.reshape(-1, self.batch_size)  # [steps, batch_size]


def bucketed(
    columns: Mapping[str, np.ndarray], batch_size: int, seed: int | None, balance: np.ndarray | None = None
) -> Batches:
    """Batches of tokenized texts of similar length.

    Args:
        columns: `tokens` `[examples, time]`, `length` `[examples]` and any others; those with a time axis are cut, too,
            but not the labels `y`.
        batch_size: examples per batch.
        seed: seed of the shuffled order, or None.
        balance: class of each example, or None.
    """
    lengths, columns = columns["length"], {name: column for name, column in columns.items() if name != "length"}
    # No wider than the column: the position table may end there.
    widths = sorted({min(width, columns["tokens"].shape[1]) for width in bucketing.widths(lengths)})
    sequences = [name for name, column in columns.items() if column.ndim >= 2 and name != "y"]
    return Batches(columns, batch_size, seed, lengths, widths, sequences, balance)


def _hashed(column: np.ndarray) -> Iterable[np.ndarray]:
    """The parts of a column that its hash depends on."""
    if spool.is_spooled(column):
        rows = max(1, _HASHED_BYTES // max(1, column.nbytes // len(column)))
        return (column[start : start + rows] for start in range(0, len(column), rows))
    return [column[:64], column[-64:]] if isinstance(column, np.memmap) else [column]


def _content(part: np.ndarray) -> Any:
    """The bytes of an array; of Python's texts their lengths and bytes, as the array has only their addresses."""
    if part.dtype != object:
        return np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
    texts = [each if isinstance(each, bytes) else str(each).encode("utf8", "surrogatepass") for each in part.ravel()]
    return b"".join([np.array([len(each) for each in texts], np.int64).tobytes(), *texts])
