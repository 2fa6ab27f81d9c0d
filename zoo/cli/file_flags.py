"""Flags of commands that read delimited files: encoding, delimiter, and files without a header."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.data.datasets.delimited_format import DelimitedFormat

_FLAGS = ("encoding", "delimiter", "no_header", "columns")


def add(verb: argparse.ArgumentParser, of_run: bool) -> None:
    """Adds the flags to a command; `of_run`: whether a run says what holds without them."""
    own = "the run's" if of_run else ""
    verb.add_argument(
        "--encoding",
        metavar="NAME",
        help=f"encoding of a .csv, .tsv or .txt, such as latin-1 (default: {own or 'utf-8'})",
    )
    verb.add_argument(
        "--delimiter",
        metavar="CHARACTER",
        help=f"delimiter of such a file, or tab or space (default: {own or 'found in the file'})",
    )
    without = " (default: the run's)" if of_run else ""
    verb.add_argument(
        "--no_header",
        action="store_true",
        help=f"such a file has no header: column1, column2, ... name its columns{without}",
    )
    verb.add_argument("--columns", metavar="NAMES", help="names of these columns, with commas between them")


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The flags that are set, as arguments of `delimited_format.of_flags`."""
    return {name: getattr(arguments, name) for name in _FLAGS if getattr(arguments, name)}


def of_file(arguments: argparse.Namespace, predictor: Any, name: str) -> "DelimitedFormat | None":
    """How a file to predict is written; None: as the training's.

    Raises:
        BadInput: flags are set, and cannot be or do not apply to the file.
    """
    flags = given(arguments)
    if not flags:
        return None
    from zoo.data.datasets import delimited, delimited_format
    from zoo.data.datasets.delimited_format import FOUND

    base = getattr(predictor, "file_format", FOUND)
    if predictor.reads_text and delimited.kind(Path(name)) == ".txt":
        # A text per line, unless flags say otherwise.
        base = FOUND
    delimited_format.check(name, [*flags], delimited.is_supported(Path(name)))
    return delimited_format.of_flags(**flags, base=base)
