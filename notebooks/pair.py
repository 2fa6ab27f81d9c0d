"""Writes each .ipynb from its .py: `python notebooks/pair.py [--repository=owner/name]`.

The .py (jupytext's percent format, which Jupyter opens as a notebook, too) is the source to edit; Colab needs the
.ipynb. It has no outputs: images would fill every diff, and come from another machine. The tests run all cells.

The project's address on GitHub is not in this repository: `--repository` writes it into all badges and first cells.
"""

import argparse
import re
from pathlib import Path

import jupytext

FOLDER = Path(__file__).parent
# The address in a badge's link and in the first cell.
_PLACES = (r"(?<=colab\.research\.google\.com/github/)[^/\s]+/[^/\s]+", r'(?<=REPOSITORY = ")[^"]+')


def texts() -> list[Path]:
    """The notebooks' .py files in order."""
    return sorted(FOLDER.glob("[0-9]*.py"))


def place(text: str, repository: str) -> str:
    """The text with another address on GitHub."""
    for pattern in _PLACES:
        text = re.sub(pattern, repository, text)
    return text


def notebook(text: Path):
    """The notebook of a .py file: no outputs, and cells named by number, so that diffs are small."""
    result = jupytext.read(text)
    for number, cell in enumerate(result.cells):
        cell["id"] = f"cell-{number}"
        cell["metadata"] = {}
    return result


def main() -> None:
    """Writes all notebooks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", help="owner/name on GitHub, to write into all notebooks")
    repository = parser.parse_args().repository
    for text in texts():
        if repository:
            text.write_text(place(text.read_text(encoding="utf8"), repository), encoding="utf8")
        jupytext.write(notebook(text), text.with_suffix(".ipynb"))


if __name__ == "__main__":
    main()
