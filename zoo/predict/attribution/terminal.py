"""An explanation on a terminal and as JSON; `zoo.predict.attribution.html` has it as HTML."""

from typing import Any, NamedTuple

from zoo.predict.attribution.integrated_gradients import Explanation
from zoo.predict.predictors.printable import visible

# Toward the predicted class green, against it red; bold from a third of the largest on, dim what was not read.
_TOWARD, _AGAINST, _BOLD, _DIM, _END = "\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[2m", "\x1b[0m"
_STRONG = 1 / 3


class Segment(NamedTuple):
    """A part of a text.

    Attributes:
        text: as it was given.
        attribution: None for what stands between tokens.
        read: whether the model has read it.
    """

    text: str
    attribution: float | None
    read: bool


def segments(found: Explanation) -> list[Segment]:
    """The whole text in parts, one after the other; tokens that share a character are one part."""
    parts: list[Segment] = []
    done = 0
    tokens = [token for token in found.tokens if not token.outside]
    for token in tokens:
        read, share = token.attribution is not None, token.attribution
        if token.start > done:
            parts.append(Segment(found.text[done : token.start], None, read))
        if token.end > max(done, token.start):
            parts.append(Segment(found.text[max(done, token.start) : token.end], share, read))
        elif parts and read:
            # One character may give two tokens: "㎏" is "k" and "g".
            last = parts[-1]
            parts[-1] = Segment(last.text, (last.attribution or 0.0) + share, True)
        done = max(done, token.end)
    rest = Segment(found.text[done:], None, not tokens or tokens[-1].attribution is not None)
    return [*parts, rest] if rest.text else parts


def strongest(found: Explanation) -> float:
    """The largest attribution of a part, whatever its sign; 1 where there is none."""
    return max((abs(part.attribution) for part in segments(found) if part.attribution is not None), default=1.0) or 1.0


def coloured(found: Explanation) -> str:
    """The text for a terminal with colours."""
    most = strongest(found)
    return "".join(_painted(part, most) for part in segments(found))


def plain(found: Explanation) -> str:
    """The parts that were read with their attributions, `good:+1.203 film:-0.004`."""
    parts = [part for part in segments(found) if part.attribution is not None]
    return " ".join(f"{visible(part.text)}:{part.attribution:+.3f}" for part in parts)


def account(found: Explanation) -> str:
    """What the attributions add up to, in one line."""
    ends = f"logit of {found.predicted} {found.logit:.3f} - baseline {found.baseline:.3f}"
    unread = len(found.tokens) - len(found.read)
    outside = [token for token in found.tokens if token.outside]
    cut = f"; {unread} of {len(found.tokens) - len(outside)} tokens not read" if unread else ""
    total = f"sum {found.sum:+.3f}"
    if outside:
        total += f" (with {', '.join(f'{token.token} {token.attribution:+.3f}' for token in outside)})"
    if found.complete:
        return f"{total} = {ends} ({found.steps} steps){cut}"
    return f"{total} is not {ends} after {found.steps:,} steps: attributions are rough{cut}"


def as_json(found: Explanation) -> dict[str, Any]:
    """The tokens that were read, where they stand in the text, their attributions, and what these add up to."""
    return {
        "tokens": [token.token for token in found.read],
        "spans": [[token.start, token.end] for token in found.read],
        "attributions": [token.attribution for token in found.read],
        "not_read": len(found.tokens) - len(found.read),
        "completeness": {
            "holds": found.complete,
            "sum": found.sum,
            "logit": found.logit,
            "baseline": found.baseline,
            "gap": found.gap,
            "steps": found.steps,
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
