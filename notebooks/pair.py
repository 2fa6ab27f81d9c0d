"""Writes each notebook from its text: `python notebooks/pair.py [--repository=owner/name]`.

The text (.py, jupytext's percent format; Jupyter opens it as a notebook, too) is the source that is read and changed;
Colab needs the .ipynb. It is kept without outputs: pictures would be most of every diff, and would tell of some other
machine's run. The tests run all of it.

The one place that cannot be known here is where the project lies on GitHub: `--repository` writes it into all badges
and first cells.
"""

import argparse
import re
from pathlib import Path

import jupytext

FOLDER = Path(__file__).parent
# In a badge's link, and in the first cell.
_PLACES = (r"(?<=colab\.research\.google\.com/github/)[^/\s]+/[^/\s]+", r'(?<=REPOSITORY = ")[^"]+')


def texts() -> list[Path]:
    """The notebooks' texts in their order."""
    return sorted(FOLDER.glob("[0-9]*.py"))


def place(text: str, repository: str) -> str:
    """The text with another place of the project on GitHub."""
    for pattern in _PLACES:
        text = re.sub(pattern, repository, text)
    return text


def notebook(text: Path):
    """The notebook that a text makes: no outputs, and cells named by number, so that a diff shows what has changed."""
    made = jupytext.read(text)
    for number, cell in enumerate(made.cells):
        cell["id"] = f"cell-{number}"
        cell["metadata"] = {}
    return made


def main() -> None:
    """Writes them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", help="owner/name on GitHub, to be written into all of them")
    repository = parser.parse_args().repository
    for text in texts():
        if repository:
            text.write_text(place(text.read_text(encoding="utf8"), repository), encoding="utf8")
        jupytext.write(notebook(text), text.with_suffix(".ipynb"))


if __name__ == "__main__":
    main()
