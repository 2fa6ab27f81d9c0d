"""Puts sections of the README into a page, so that a figure stands once: `<!-- README: Results -->`."""

import re
from pathlib import Path
from typing import Any

_README = Path(__file__).parent.parent / "README.md"
_WANTED = re.compile(r"<!-- README: (.+) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What mkdocs calls for each page."""
    return _WANTED.sub(lambda found: section(found[1]), markdown)


def section(title: str) -> str:
    """A section of the second level, with its title.

    Args:
        title: as it stands in the README.

    Raises:
        ValueError: the README has no such section.
    """
    text = _README.read_text(encoding="utf8")
    found = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"{_README} has no section {title!r}: expected one that a page of docs/ asks for")
    return found[0]
