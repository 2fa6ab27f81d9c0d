"""Folders that Hugging Face's `datasets` writes by `save_to_disk`: a Dataset, or a DatasetDict of its splits."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from zoo.errors import BadInput

_STATE, _INFO, _SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
_NAMES = ("train", "validation", "test")
LEFT_OUT = "folds are parts of the training split; the other splits are left out"


class Folders(NamedTuple):
    """Folders of the splits; None where there is none."""

    train: Path
    validation: Path | None = None
    test: Path | None = None

    @property
    def others(self) -> list[Path]:
        """Those beside the training split."""
        return [path for path in (self.validation, self.test) if path is not None]


def is_saved(path: Path) -> bool:
    """Whether a path is such a folder."""
    return path.is_dir() and any((path / name).is_file() for name in (_STATE, _SPLITS))


def folders(path: Path) -> Folders:
    """The splits of a DatasetDict; of any other path itself as the training split.

    Raises:
        BadInput: there is no `train`, or a split beside `train`, `validation` and `test`.
    """
    if not is_saved(path) or not (path / _SPLITS).is_file():
        return Folders(path)
    names = _json(path / _SPLITS, "splits", list)
    others = [name for name in names if name not in _NAMES]
    if others or "train" not in names:
        wrong = f"the split {others[0]!r}" if others else "no split 'train'"
        raise BadInput(f"{path} has {wrong}: expected {', '.join(_NAMES)}, or the folder of one split")
    return Folders(*(path / name if name in names else None for name in _NAMES))


def read(path: Path) -> Any:
    """A Dataset as a `pyarrow.Table`; labels with names (ClassLabel) as these names.

    Raises:
        BadInput: the folder is a DatasetDict, or a file is missing or damaged.
    """
    import pyarrow as pa

    if not (path / _STATE).is_file():
        names = _json(path / _SPLITS, "splits", list)
        one = f", such as {path / str(names[0])}" if names else ""
        raise BadInput(f"{path} has several splits: expected the folder of one{one}")
    files = [path / Path(str(file.get("filename"))).name for file in _json(path / _STATE, "_data_files", list)]
    if not files:
        raise BadInput(f"{path} is empty: expected rows")
    if json.loads((path / _STATE).read_text(encoding="utf8")).get("_indices_files"):
        raise BadInput(f"{path} has indices beside its rows: save it again by flatten_indices().save_to_disk(...)")
    try:
        parts = [pa.ipc.open_stream(pa.memory_map(str(file))).read_all() for file in files]
        table = pa.concat_tables(parts)
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{path} cannot be read: {reason}; expected a folder that save_to_disk wrote") from None
    for name, feature in _json(path / _INFO, "features", dict).items():
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and name in table.column_names:
            place = table.column_names.index(name)
            table = table.set_column(place, name, _named(path, name, table.column(place), feature.get("names")))
    return table


def _named(path: Path, column: str, indices: Any, names: Any) -> Any:
    """The names of classes; none for -1, which stands for a missing one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not isinstance(names, list):
        return indices
    wrong = pc.filter(indices, pc.or_(pc.less(indices, -1), pc.greater_equal(indices, len(names))))
    if len(wrong):
        raise BadInput(f"{path}, column {column!r}: {wrong[0]} is none of its {len(names)} classes; expected an index")
    known = pc.if_else(pc.less(indices, 0), pa.scalar(None, indices.type), indices)
    return pc.take(pa.array(names, pa.string()), known)


def _json(path: Path, key: str, kind: type) -> Any:
    try:
        found = json.loads(path.read_text(encoding="utf8"))[key]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, kind):
        raise BadInput(f"{path} lacks {key!r}: expected a folder that save_to_disk of Hugging Face's datasets wrote")
    return found
