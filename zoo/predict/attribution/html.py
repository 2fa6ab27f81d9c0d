"""Attributions as one self-contained HTML page."""

import html
from collections.abc import Sequence
from pathlib import Path

from zoo import files, names
from zoo.data import cache
from zoo.errors import BadInput
from zoo.predict.attribution import terminal
from zoo.predict.attribution.integrated_gradients import TOLERANCE, Explanation

# Opacity of the strongest part's background; text stays readable on it, black on white and white on black.
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
<span class="cut">was cut off and not read by the model</span>; the colour's strength is relative to the
strongest part of the same text. Integrated gradients of the predicted class's logit, from a baseline of zeros; they
sum to the difference of the two logits within {tolerance:.0%}, or the text says so. Point at a part for its number.
</p>
{sections}
</body>
</html>
"""


def check(path: str | Path) -> Path:
    """The absolute path of a page, checked before the work of explaining.

    Raises:
        BadInput: the path does not end in .html, so that a typo cannot replace another file, or its folder is missing.
    """
    absolute = files.absolute(path)
    if absolute.suffix.lower() not in (".html", ".htm"):
        raise BadInput(f"--html is {path}: expected a file that ends in .html")
    if not absolute.parent.is_dir():
        raise BadInput(f"--html is {path}: {absolute.parent} is not a folder; make it or choose another place")
    return absolute


def write(path: Path, explanations: Sequence[tuple[str, Explanation]]) -> None:
    """Writes a page, atomically.

    Args:
        path: path from `check`.
        explanations: name and explanation of each text.

    Raises:
        BadInput: the page cannot be written; an old file is kept.
    """
    try:
        cache.replace(path, render(explanations).encode())
    except OSError as error:
        raise BadInput(f"--html {path} cannot be written: {error.strerror}; choose another place") from None


def render(explanations: Sequence[tuple[str, Explanation]]) -> str:
    """The page's HTML; see `write`."""
    title = f"{len(explanations)} explained prediction{'s' if len(explanations) != 1 else ''}"
    sections = "\n".join(_section(*one) for one in explanations)
    return _PAGE.format(title=title, style=_STYLE, opaque=_OPAQUE, tolerance=TOLERANCE, sections=sections)


def _section(name: str, explanation: Explanation) -> str:
    most = terminal.strongest(explanation)
    text = "".join(_span(part, most) for part in terminal.segments(explanation)) or "(an empty text)"
    order = (-explanation.probabilities).argsort(kind="stable")
    rows = "\n".join(_row(explanation, int(label)) for label in order)
    return (
        f"<section>\n<h2>{_escaped(name)}</h2>\n"
        f'<p class="text" lang="" dir="auto">{text}</p>\n'
        f"<table>\n{rows}\n</table>\n"
        f'<p class="account">{_escaped(terminal.account(explanation))}</p>\n</section>'
    )


def _row(explanation: Explanation, label: int) -> str:
    name = explanation.classes[label]
    mark = ' class="predicted"' if name == explanation.predicted else ""
    probability = f"{explanation.probabilities[label]:.4f}"
    return f'<tr{mark}><th scope="row">{_escaped(names.escaped(str(name)))}</th><td>{probability}</td></tr>'


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
    # HTML allows no other control characters than these; U+FFFD replaces the others.
    kept = (c if c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f") else "�" for c in text.replace("\r\n", "\n"))
    return html.escape("".join(kept))
