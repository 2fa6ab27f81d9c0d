"""Attributions on a terminal and as JSON; see `zoo.predict.attribution.html` for HTML."""

from typing import Any, NamedTuple

from zoo.names import escaped
from zoo.predict.attribution.integrated_gradients import Explanation
from zoo.predict.predictors.printable import visible

# Green for the predicted class, red against it, bold from a third of the largest attribution, dim if not read.
_TOWARD, _AGAINST, _BOLD, _DIM, _END = "\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[2m", "\x1b[0m"
_STRONG = 1 / 3


class Segment(NamedTuple):
    """A part of a text.

    Attributes:
        text: the part's characters.
        attribution: sum of its tokens' attributions; None between tokens.
        read: whether the model has read it.
    """

    text: str
    attribution: float | None
    read: bool


def segments(explanation: Explanation) -> list[Segment]:
    """The whole text as consecutive parts; tokens that share a character are one part."""
    parts: list[Segment] = []
    done = 0
    tokens = [token for token in explanation.tokens if not token.outside]
    for token in tokens:
        read, share = token.attribution is not None, token.attribution
        if token.start > done:
            parts.append(Segment(explanation.text[done : token.start], None, read))
        if token.end > max(done, token.start):
            parts.append(Segment(explanation.text[max(done, token.start) : token.end], share, read))
        elif parts and read:
            # One character may give two tokens: "㎏" is "k" and "g".
            last = parts[-1]
            parts[-1] = Segment(last.text, (last.attribution or 0.0) + share, True)
        done = max(done, token.end)
    rest = Segment(explanation.text[done:], None, not tokens or tokens[-1].attribution is not None)
    return [*parts, rest] if rest.text else parts


def strongest(explanation: Explanation) -> float:
    """The largest absolute attribution of a part; 1 without attributions."""
    sizes = (abs(part.attribution) for part in segments(explanation) if part.attribution is not None)
    return max(sizes, default=1.0) or 1.0


def coloured(explanation: Explanation) -> str:
    """The text in ANSI colours for a terminal."""
    most = strongest(explanation)
    return "".join(_painted(part, most) for part in segments(explanation))


def plain(explanation: Explanation) -> str:
    """The parts with their attributions, `good:+1.203 film:-0.004`."""
    parts = [part for part in segments(explanation) if part.attribution is not None]
    return " ".join(f"{visible(part.text)}:{part.attribution:+.3f}" for part in parts)


def account(explanation: Explanation) -> str:
    """Completeness in one line: the sum of the attributions and the difference of the logits."""
    ends = (
        f"logit of {escaped(str(explanation.predicted))} {explanation.logit:.3f} - baseline {explanation.baseline:.3f}"
    )
    unread = len(explanation.tokens) - len(explanation.read)
    outside = [token for token in explanation.tokens if token.outside]
    cut = f"; {unread} of {len(explanation.tokens) - len(outside)} tokens not read" if unread else ""
    total = f"sum {explanation.sum:+.3f}"
    if outside:
        total += f" (with {', '.join(f'{token.token} {token.attribution:+.3f}' for token in outside)})"
    if explanation.complete:
        return f"{total} = {ends} ({explanation.steps} steps){cut}"
    return f"{total} is not {ends} after {explanation.steps:,} steps: attributions are rough{cut}"


def as_json(explanation: Explanation) -> dict[str, Any]:
    """Tokens that were read, their spans in the text, their attributions, and completeness; for `json.dumps`."""
    return {
        "tokens": [token.token for token in explanation.read],
        "spans": [[token.start, token.end] for token in explanation.read],
        "attributions": [token.attribution for token in explanation.read],
        "not_read": len(explanation.tokens) - len(explanation.read),
        "completeness": {
            "holds": explanation.complete,
            "sum": explanation.sum,
            "logit": explanation.logit,
            "baseline": explanation.baseline,
            "gap": explanation.gap,
            "steps": explanation.steps,
        },
    }


def _painted(part: Segment, most: float) -> str:
    text = visible(part.text)
    if not part.read:
        return f"{_DIM}{text}{_END}"
    if not part.attribution:
        return text
    colour = _TOWARD if part.attribution > 0 else _AGAINST
    return f"{_BOLD if abs(part.attribution) >= _STRONG * most else ''}{colour}{text}{_END}"
