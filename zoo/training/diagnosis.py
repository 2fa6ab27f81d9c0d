"""Over- and under-fitting in words: how the training loss and the validation loss went, and what to try.

It goes by trends. The two losses themselves may differ for other reasons: the training loss has dropout, augmentation
and label smoothing in it, and is a mean over steps that began with worse weights.
"""

from collections.abc import Sequence
from typing import NamedTuple

from zoo.config import Config

# Fewer evaluations show no trend; of more than these every second one is kept.
_FEWEST, _MOST = 4, 128
# Share of the whole fall of the validation loss that counts as a change: less is noise of small validation splits.
_CHANGE = 0.05
# Share of the training loss at the start below which a fall is none.
_FALL = 0.02


class Point(NamedTuple):
    """The losses at one evaluation: of training since the last log, and of the first validation set."""

    step: int
    train: float
    validation: float


def added(curve: Sequence[Point], point: Point) -> list[Point]:
    """The curve with one more point, thinned where it is long; the first point stays."""
    longer = [*curve, point]
    return longer if len(longer) <= _MOST else longer[::2]


def words(curve: Sequence[Point], config: Config) -> str:
    """A sentence on the fit, or "" where there are too few evaluations to tell."""
    if len(curve) < _FEWEST:
        return ""
    first, last = curve[0], curve[-1]
    best = min(curve, key=lambda point: point.validation)
    gap = f"validation loss {last.validation:.4g}, training loss {last.train:.4g}"
    if first.train - last.train <= _FALL * abs(first.train) and first.validation - best.validation <= 0:
        return (
            f"has not learned: {gap}, from {first.train:.4g} at first; try another --learning_rate, or look at the data"
        )
    change = _CHANGE * (first.validation - best.validation)
    if last.validation - best.validation > change and last.train < best.train:
        return (
            f"overfits: the validation loss was lowest at step {best.step:,} ({best.validation:.4g}) and is "
            f"{last.validation:.4g}, while the training loss fell from {best.train:.4g} to {last.train:.4g}; "
            f"{_against_overfitting(config)}"
        )
    recent = curve[-max(2, len(curve) // 4)]
    if recent.validation - last.validation > change:
        return (
            f"still learns: the validation loss fell from {recent.validation:.4g} to {last.validation:.4g} since step "
            f"{recent.step:,}; more --{'steps' if config.steps else 'epochs'} may help"
        )
    return f"has levelled off: {gap}; the validation loss was lowest at step {best.step:,} ({best.validation:.4g})"


def _against_overfitting(config: Config) -> str:
    more = "more data or regularization may help (--weight_decay, --label_smoothing, --dropout where it has them)"
    if config.exports_best:
        return f"the weights of the best evaluation are kept; {more}"
    return f"--patience=5 keeps the weights of the best evaluation; {more}"
