"""`zoo inspect`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import strict_json
from zoo.cli import file_flags
from zoo.names import escaped

if TYPE_CHECKING:
    from zoo.data.audit import Audit

# Classes that are printed.
_CLASSES = 20


def add(verbs: Any) -> None:
    """`zoo inspect FILE`."""
    about = "Say what is in a table before anything learns from it."
    verb = verbs.add_parser("inspect", help=about, description=f"{about} Nothing is written or changed.")
    verb.add_argument(
        "file",
        metavar="FILE",
        help="a .csv, .tsv, .txt, .parquet, .arrow, .feather, .jsonl or .json file, or several: 'part-*.csv'",
    )
    verb.add_argument(
        "--label_column", metavar="NAME", default="", help="column of the classes or values (default: label)"
    )
    verb.add_argument("--test_file", metavar="FILE", help="another file, whose rows should not be in the first")
    for name, what in (("categorical", "categories"), ("numeric", "numbers")):
        verb.add_argument(f"--{name}", metavar="NAMES", default="", help=f"columns to read as {what}, with commas")
    verb.add_argument("--decimal", choices=(".", ","), default=".", help="decimal mark of the numbers (default: .)")
    file_flags.add(verb, of_run=False)
    verb.add_argument("--json", action="store_true", help="print one JSON object")
    verb.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from zoo.data import audit
    from zoo.data.datasets import column_kinds, delimited_format

    options = column_kinds.options(arguments.categorical, arguments.numeric, arguments.decimal)
    test = Path(arguments.test_file) if arguments.test_file else None
    form = delimited_format.of_flags(**file_flags.given(arguments))
    found = audit.table(Path(arguments.file), arguments.label_column, test, options, form)
    print(strict_json.dumps(found.as_json()) if arguments.json else _text(found))
    return 0


def _text(found: "Audit") -> str:
    lines = [f"{found.path}: {found.rows:,} rows, {len(found.columns)} columns besides the label", ""]
    cells = [("column", "is", "missing", "different", "smallest .. median .. largest, or most frequent")]
    cells += [
        (escaped(fact.name), fact.kind, f"{fact.missing / found.rows:.1%}", f"{fact.different:,}", escaped(fact.range))
        for fact in found.columns
    ]
    widths = [max(len(row[place]) for row in cells) for place in range(4)]
    lines += ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]).rstrip() for row in cells]
    if found.labels:
        lines += ["", "label"]
        shown = list(found.labels.items())[:_CLASSES]
        total = sum(found.labels.values())
        lines += [f"  {escaped(name)}  {count:,} ({count / total:.1%})" for name, count in shown]
        lines += [f"  and {len(found.labels) - _CLASSES:,} more"] if len(found.labels) > _CLASSES else []
    elif found.values:
        lines += ["", f"label: values {found.values}"]
    lines += ["", *(f"WARNING: {escaped(line)}" for line in found.warnings)] if found.warnings else []
    lines += ["", *(escaped(line) for line in found.notes)] if found.notes else []
    return "\n".join(lines)
