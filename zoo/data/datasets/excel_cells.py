"""Cells of a workbook that a reader takes as empty although they are not: errors, and formulas without their value."""

import posixpath
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from zoo.errors import BadInput

# Bytes of a sheet that are looked at together.
_BLOCK = 1 << 20
_ERROR = re.compile(rb"<(?:\w+:)?c\s([^>]*\bt=[\"']e[\"'][^>]*)>")
_VALUE = re.compile(rb"<(?:\w+:)?v>([^<]*)<")
_VALUELESS = re.compile(
    rb"<(?:\w+:)?c\s([^>]*)><(?:\w+:)?f(?:\s[^>]*)?(?:/>|>[^<]*</(?:\w+:)?f>)"
    rb"(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v></(?:\w+:)?v>)?</(?:\w+:)?c>"
)
_PLACE = re.compile(rb"\br=[\"']([A-Z]+[0-9]+)[\"']")
# A formula whose value is the empty text.
_TEXT = re.compile(rb"\bt=[\"']str[\"']")
_SHEET_ID = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_STRICT_SHEET_ID = "{http://purl.oclc.org/ooxml/officeDocument/relationships}id"


def name(row: int, column: int) -> str:
    """The name of a cell, such as B3, by its row and column from 0."""
    letters = ""
    while column >= 0:
        letters, column = chr(ord("A") + column % 26) + letters, column // 26 - 1
    return f"{letters}{row + 1}"


def check(path: Path) -> None:
    """Refuses a workbook whose first sheet has an error, or a formula that nothing has computed.

    Raises:
        BadInput: it has one; the message has the cell.
    """
    try:
        for block in _blocks(path):
            if found := _ERROR.search(block):
                value = _VALUE.search(block, found.end())
                said = f" {value[1].decode(errors='replace')}" if value else ""
                raise BadInput(f"{path} {_place(found[1])} is the error{said}; expected a value, or an empty cell")
            for found in _VALUELESS.finditer(block):
                if not _TEXT.search(found[1]):
                    raise BadInput(
                        f"{path} {_place(found[1])} is a formula without its value: open and save the file in a "
                        "spreadsheet program, which computes it"
                    )
    except (zipfile.BadZipFile, KeyError, ElementTree.ParseError, StopIteration, OSError) as error:
        raise BadInput(f"{path} cannot be read: {error}; expected a whole {path.suffix.lower()} file") from None


def _place(attributes: bytes) -> str:
    found = _PLACE.search(attributes)
    return f"cell {found[1].decode()}" if found else "has a cell that"


def _blocks(path: Path) -> Iterator[bytes]:
    """The first sheet's XML in parts that end with a row."""
    with zipfile.ZipFile(path) as archive, archive.open(_sheet(archive)) as sheet:
        rest = b""
        while block := sheet.read(_BLOCK):
            whole = rest + block
            end = whole.rfind(b"row>") + 1
            rest = whole[end:]
            yield whole[:end]
        yield rest


def _sheet(archive: zipfile.ZipFile) -> str:
    """Name of the first sheet in the archive."""
    book = ElementTree.fromstring(archive.read("xl/workbook.xml"))
    first = next(each for each in book.iter() if each.tag.endswith("}sheet"))
    wanted = first.get(_SHEET_ID) or first.get(_STRICT_SHEET_ID)
    links = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))
    target = next(each.get("Target", "") for each in links if each.get("Id") == wanted)
    return posixpath.normpath(posixpath.join("xl", target)).lstrip("/")
