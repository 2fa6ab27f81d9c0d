"""Several labels per text: names with a separator between them, JSON lists of names, or a yes/no column per label."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo.data.datasets import class_labels, label_sets, text_files
from zoo.data.datasets.delimited_format import FOUND, DelimitedFormat
from zoo.data.datasets.label_sets import LabelSets
from zoo.data.datasets.text_files import Row
from zoo.errors import BadInput


class LabelledRows(NamedTuple):
    """Rows of a file, the names of the labels, and which each row has: float32 `[rows, labels]`, 0 or 1."""

    rows: list[Row]
    names: tuple[str, ...]
    y: np.ndarray


def read(
    path: Path,
    columns: tuple[str, str],
    options: LabelSets,
    labels: Sequence[str] = (),
    *,
    drop_unlabelled: bool = False,
    notes: list[str] | None = None,
    form: DelimitedFormat = FOUND,
) -> LabelledRows:
    """Reads a file of texts with several labels each.

    Args:
        path: a file that `text_files.read` reads.
        columns: names of the columns of texts and of second texts; the latter is empty for single texts.
        options: how the file says which labels a text has.
        labels: the model's labels; empty: they are found in the file, which then has to show each of them.
        drop_unlabelled: whether to leave out rows whose labels are missing; else they are refused.
        notes: list that gets a line for each assumption and doubt.
        form: what a user says of a delimited file.

    Raises:
        BadInput: the file is malformed, a label is missing, not understood or unknown to the model, with its line; or
            all rows have a label, or none has.
    """
    notes = [] if notes is None else notes
    flags = {"drop_unlabelled": drop_unlabelled, "notes": notes, "form": form}
    if options.separator:
        found = _of_names(path, columns, options, labels, flags)
    else:
        found = _of_columns(path, columns, label_sets.of_model(options, labels), labels, flags)
    if not labels and found.rows:
        label_sets.refuse_constant(str(path), found.names, found.y)
    return found


def _of_names(path: Path, columns: tuple[str, str], options: LabelSets, labels: Sequence[str], flags) -> LabelledRows:
    [column] = options.columns
    more = {"separator": options.separator, "keeps_empty": options.empty_is_none}
    rows = text_files.read(path, columns[0], column, columns[1], **more, **flags)
    cells = [label_sets.parts(row.label, options.separator) for row in rows]
    names = tuple(labels)
    if not names:
        names, doubts = class_labels.classes(itertools.chain.from_iterable(cells), f"{path}, column {column!r}")
        flags["notes"].extend(doubts)
    y = np.zeros((len(rows), len(names)), np.float32)
    index_of = dict(zip(known := sorted(set(itertools.chain.from_iterable(cells))), class_labels.indices(known, names)))
    for place, (row, cell) in enumerate(zip(rows, cells)):
        found = [index_of[name] for name in cell]
        if -1 in found:
            unknown = class_labels.unknown(cell[found.index(-1)], names, "the model")
            raise BadInput(f"{row.place(str(path))}: {column!r} {unknown}")
        y[place, found] = 1.0
    return LabelledRows(rows, names, y)


def _of_columns(path: Path, columns: tuple[str, str], options: LabelSets, labels: Sequence[str], flags) -> LabelledRows:
    # Each column is read by itself, with its own missing cells.
    notes = flags["notes"]
    files = [
        text_files.read(path, columns[0], name, columns[1], **flags | {"notes": notes if not place else []})
        for place, name in enumerate(options.columns)
    ]
    answers: dict[tuple[Path | None, int], list[float]] = {}
    for name, rows in zip(options.columns, files):
        for row in rows:
            value = label_sets.meaning(row.label)
            if not value >= 0:
                said = f"{name!r} is {class_labels.quoted(row.label)}; {label_sets.EXPECTED}, as it is a label"
                raise BadInput(f"{row.place(str(path))}: {said}")
            answers.setdefault((row.file, row.line), []).append(value)
    kept = [row for row in files[0] if len(answers[row.file, row.line]) == len(files)]
    if len(kept) < len(files[0]):
        notes.append(class_labels.dropped_note(str(path), len(files[0]) - len(kept)))
    y = np.array([answers[row.file, row.line] for row in kept], np.float32).reshape(len(kept), len(files))
    return LabelledRows(kept, tuple(labels) or options.columns, y)
