"""`zoo inspect`."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import strict_json
from zoo.cli import file_flags
from zoo.errors import BadInput
from zoo.names import escaped

if TYPE_CHECKING:
    from zoo.data.audit import Audit
    from zoo.data.datasets.delimited_format import DelimitedFormat
    from zoo.data.image_audit import ImageAudit
    from zoo.data.text_audit import TextAudit

# Flags that are for tables alone; "." is the decimal mark where it is not set.
_OF_TABLES = ("categorical", "numeric", "decimal")

# Classes that are printed.
_CLASSES = 20


def add(verbs: Any) -> None:
    """`zoo inspect FILE`."""
    about = "Say what is in a table, in texts or in a folder of images before anything learns from it."
    # `zoo --help` fits on one screen.
    brief = "Say what is in a table, in texts or in images beforehand."
    verb = verbs.add_parser("inspect", help=brief, description=f"{about} Nothing is written or changed.")
    verb.add_argument(
        "file",
        metavar="FILE",
        help="a .csv, .tsv, .txt, .parquet, .arrow, .feather, .xlsx, .jsonl or .json file, or several: "
        "'part-*.csv'; or a folder of class folders with images",
    )
    verb.add_argument(
        "--label_column", metavar="NAME", default="", help="column of the classes or values (default: label)"
    )
    verb.add_argument(
        "--text_column",
        metavar="NAME",
        default="",
        help="column of texts to examine (default: text, where the file has it; else the file is a table)",
    )
    verb.add_argument("--test_file", metavar="FILE", help="another file, whose rows should not be in the first")
    for name, what in (("categorical", "categories"), ("numeric", "numbers")):
        verb.add_argument(f"--{name}", metavar="NAMES", default="", help=f"columns to read as {what}, with commas")
    verb.add_argument("--decimal", choices=(".", ","), default=".", help="decimal mark of the numbers (default: .)")
    file_flags.add(verb, of_run=False)
    verb.add_argument("--json", action="store_true", help="print one JSON object")
    verb.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from zoo.data.datasets import delimited_format, saved_datasets

    path, test = Path(arguments.file), Path(arguments.test_file) if arguments.test_file else None
    form = delimited_format.of_flags(**file_flags.given(arguments))
    if path.is_dir() and not saved_datasets.is_saved(path):
        found, text = _images(path, test, arguments), _image_text
    elif _has_texts(path, arguments, form):
        from zoo.data import text_audit

        found = text_audit.texts(path, arguments.text_column, arguments.label_column, test, form)
        text = _texts_text
    else:
        from zoo.data import audit
        from zoo.data.datasets import column_kinds

        options = column_kinds.options(arguments.categorical, arguments.numeric, arguments.decimal)
        found, text = audit.table(path, arguments.label_column, test, options, form), _text
    print(strict_json.dumps(found.as_json()) if arguments.json else text(found))
    return 0


def _has_texts(path: Path, arguments: argparse.Namespace, form: "DelimitedFormat") -> bool:
    """Whether to examine a file's texts: they are named, or are in a column `text` and no flag of tables is set."""
    flags = [name for name in _OF_TABLES if getattr(arguments, name) not in ("", ".")]
    if arguments.text_column:
        for name in flags:
            raise BadInput(f"--{name} with --text_column: it is for tables; leave one of them out")
        return True
    from zoo import files
    from zoo.data import text_audit
    from zoo.data.datasets import delimited

    if flags or not all(each.exists() for each in files.listed(path)):
        return False
    return delimited.match("text", text_audit.header(path, form)) is not None


def _images(path: Path, test: Path | None, arguments: argparse.Namespace) -> "ImageAudit":
    """What is in a folder of images, where no flag of files is set."""
    from zoo.data import image_audit

    flags = ("label_column", "text_column", *_OF_TABLES)
    given = [name for name in flags if getattr(arguments, name) not in ("", ".")]
    given += list(file_flags.given(arguments))
    if given:
        raise BadInput(f"--{given[0]} is for files, {path} is a folder of images: leave the flag out")
    if test is not None and not test.is_dir():
        raise BadInput(f"--test_file {test} is no folder, {path} is one of images; expected class folders")
    return image_audit.images(path, test)


def _text(found: "Audit") -> str:
    lines = [f"{found.path}: {found.rows:,} rows, {len(found.columns)} columns besides the label", ""]
    cells = [("column", "is", "missing", "different", "smallest .. median .. largest, or most frequent")]
    cells += [
        (escaped(fact.name), fact.kind, f"{fact.missing / found.rows:.1%}", f"{fact.different:,}", escaped(fact.range))
        for fact in found.columns
    ]
    widths = [max(len(row[place]) for row in cells) for place in range(4)]
    lines += ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]).rstrip() for row in cells]
    return "\n".join([*lines, *_labels(found.labels, found.values), *_ends(found)])


def _texts_text(found: "TextAudit") -> str:
    lines = [f"{found.path}: {found.texts:,} texts", "", "smallest .. median .. largest"]
    lines += [f"  characters  {found.characters}", f"  words       {found.words}"]
    return "\n".join([*lines, *_labels(found.labels, found.values), *_ends(found)])


def _image_text(found: "ImageAudit") -> str:
    lines = [f"{found.path}: {found.images:,} images"]
    for title, counts in (("split", found.parts), ("height x width", found.sizes), ("kind", found.modes)):
        lines += ["", title, *(f"  {name}  {count:,} ({count / found.images:.1%})" for name, count in counts.items())]
    return "\n".join([*lines, *_labels(found.labels, ""), *_ends(found)])


def _labels(labels: Mapping[str, int], values: str) -> list[str]:
    """The classes, or the range of values."""
    if not labels:
        return ["", f"label: values {values}"] if values else []
    total = sum(labels.values())
    shown = [f"  {escaped(name)}  {count:,} ({count / total:.1%})" for name, count in list(labels.items())[:_CLASSES]]
    rest = [f"  and {len(labels) - _CLASSES:,} more"] if len(labels) > _CLASSES else []
    return ["", "label", *shown, *rest]


def _ends(found: "Audit | TextAudit | ImageAudit") -> list[str]:
    """Warnings and notes."""
    lines = ["", *(f"WARNING: {escaped(line)}" for line in found.warnings)] if found.warnings else []
    return lines + (["", *(escaped(line) for line in found.notes)] if found.notes else [])
