"""Explanations as one HTML page that needs nothing besides itself."""

import html
from collections.abc import Sequence
from pathlib import Path

from zoo import files
from zoo.data import cache
from zoo.errors import BadInput
from zoo.predict.attribution import terminal
from zoo.predict.attribution.integrated_gradients import TOLERANCE, Explanation

# Of the strongest part's background; text stays readable on it, black on white and white on black.
_OPAQUE = 0.6

_STYLE = """\
:root { color-scheme: light dark; --toward: 30 120 220; --against: 225 110 20; }
body { font: 1rem/1.6 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 2; border-left: 3px solid #888; padding: 0 .8rem; }
.toward, .against { border-radius: 3px; padding: .1em 0; }
.toward { background: rgb(var(--toward) / var(--strength)); }
.against { background: rgb(var(--against) / var(--strength)); text-decoration: underline dotted; }
.cut { opacity: .45; }
table { border-collapse: collapse; }
td, th { padding: .1rem .8rem .1rem 0; text-align: left; font-weight: inherit; }
td { text-align: right; font-variant-numeric: tabular-nums; }
.predicted { font-weight: bold; }
.account, .legend { font-size: .9rem; }
"""

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<h1>{title}</h1>
<p class="legend">
<span class="toward" style="--strength: {opaque}">speaks for</span> the predicted class,
<span class="against" style="--strength: {opaque}">speaks against it</span>,
<span class="cut">was cut off, so that the model has not read it</span>; the colour's strength is relative to the
strongest part of the same text. Integrated gradients of the predicted class's logit, from a baseline of zeros; they
sum to the difference of the two logits within {tolerance:.0%}, or the text says so. Point at a part for its number.
</p>
{sections}
</body>
</html>
"""


def check(path: str | Path) -> Path:
    """The place of a page to be written, before work is put into it.

    Raises:
        BadInput: it does not end in .html, which keeps a slip from replacing another file, or has no folder.
    """
    place = files.absolute(path)
    if place.suffix.lower() not in (".html", ".htm"):
        raise BadInput(f"--html is {path}: expected a file that ends in .html")
    if not place.parent.is_dir():
        raise BadInput(f"--html is {path}: {place.parent} is not a folder; make it or choose another place")
    return place


def write(path: Path, found: Sequence[tuple[str, Explanation]]) -> None:
    """Writes a page in one stroke.

    Args:
        path: as `check` gave it.
        found: the name of each text, and its explanation.

    Raises:
        BadInput: it cannot be written; an old file stays.
    """
    try:
        cache.replace(path, render(found).encode())
    except OSError as error:
        raise BadInput(f"--html {path} cannot be written: {error.strerror}; choose another place") from None


def render(found: Sequence[tuple[str, Explanation]]) -> str:
    """The page; see `write`."""
    title = f"{len(found)} explained prediction{'s' if len(found) != 1 else ''}"
    sections = "\n".join(_section(*one) for one in found)
    return _PAGE.format(title=title, style=_STYLE, opaque=_OPAQUE, tolerance=TOLERANCE, sections=sections)


def _section(name: str, found: Explanation) -> str:
    most = terminal.strongest(found)
    text = "".join(_span(part, most) for part in terminal.segments(found)) or "(an empty text)"
    order = (-found.probabilities).argsort(kind="stable")
    rows = "\n".join(_row(found, int(label)) for label in order)
    return (
        f"<section>\n<h2>{_escaped(name)}</h2>\n"
        f'<p class="text" lang="" dir="auto">{text}</p>\n'
        f"<table>\n{rows}\n</table>\n"
        f'<p class="account">{_escaped(terminal.account(found))}</p>\n</section>'
    )


def _row(found: Explanation, label: int) -> str:
    name = found.classes[label]
    mark = ' class="predicted"' if name == found.predicted else ""
    probability = f"{found.probabilities[label]:.4f}"
    return f'<tr{mark}><th scope="row">{_escaped(name)}</th><td>{probability}</td></tr>'


def _span(part: terminal.Segment, most: float) -> str:
    if not part.read:
        return f'<span class="cut">{_escaped(part.text)}</span>'
    if part.attribution is None:
        return _escaped(part.text)
    kind = "toward" if part.attribution >= 0 else "against"
    strength = f"{_OPAQUE * abs(part.attribution) / most:.3f}"
    return (
        f'<span class="{kind}" style="--strength: {strength}" title="{part.attribution:+.4f}">'
        f"{_escaped(part.text)}</span>"
    )


def _escaped(text: str) -> str:
    # HTML has no control characters but these; U+FFFD says that there was one.
    kept = (c if c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f") else "�" for c in text.replace("\r\n", "\n"))
    return html.escape("".join(kept))
