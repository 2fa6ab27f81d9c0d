"""Tables of the page of `benchmarks.multi_step` on mixed orders, and on calibration under corruption."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.multi_step.images import MIXED, ORDERS

_BOOTSTRAP = 2000
# Neighbours of a burst are right or wrong together: blocks of this many examples are drawn.
_BLOCK = 20


def orders(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """The section on streams that are neither random nor sorted.

    Args:
        found: by title of the data set, what `images.orders` has measured, a seed each.
    """
    if not any(found.values()):
        return
    yield "\n## Mixed orders\n"
    yield (
        "Four hundred images, as they are or of severity 3, plan `auto`, batches of 200. Bursts: so many images of one "
        "class in a row. Label shift with drift: the class proportions move from one draw of a Dirichlet distribution "
        f"(alpha 0.3) to another. Errors in percent, plain → refined, and the gain in points (paired bootstrap of "
        f"blocks of {_BLOCK}, 95 %).\n\n"
        "| order | data, seeds | images | plain → refined | gain |\n|---|---|---|---|---|"
    )
    for order in ORDERS:
        for title, runs in found.items():
            for name in MIXED if runs else ():
                wrong = 100.0 * np.array([run[f"{order}, {name}"] for run in runs])  # [seeds, 2, examples]
                plain, refined = wrong.mean(axis=(0, 2))
                low, high = _interval(wrong[:, 0] - wrong[:, 1])
                gain = f"{plain - refined:+.1f} ({low:+.1f} to {high:+.1f})"
                yield f"| {order} | {title}, {len(runs)} | {name} | {plain:.1f} → {refined:.1f} | {gain} |"


def calibration(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """The section on expected calibration error and log loss of corrupted images.

    Args:
        found: by title of the data set, what `images.corruptions` has measured, a seed each.
    """
    if not any(found.values()):
        return
    yield "\n## Calibration under corruption\n"
    yield (
        "Expected calibration error (15 bins, in percent) and log loss in nats of the answers to the images above, "
        "means of the cells and seeds; *worst* is the largest rise of the log loss in a cell, mean of the seeds. After "
        "a hidden Markov model has joined neighbours, confidence is near 1, and a burst that is taken for another "
        "class is wrong with certainty.\n\n"
        "| data, seeds | order | ECE, plain → refined | log loss, plain → refined | worst |\n|---|---|---|---|---|"
    )
    for title, runs in found.items():
        if not runs:
            continue
        values = np.mean([run["calibration"] for run in runs], axis=0)  # [cells, plain and refined, ECE and log loss]
        cells = [cell.split() for cell in runs[0]["cells"]]
        for order, shown in (("iid", "random"), ("sorted", "sorted by class")):
            for clean in (True, False):
                chosen = [
                    number for number, cell in enumerate(cells) if (cell[0], cell[1] == "clean") == (order, clean)
                ]
                (ece, loss), (after, loss_after) = values[chosen].mean(axis=0)
                rise = (values[chosen, 1, 1] - values[chosen, 0, 1]).max()
                yield (
                    f"| {title}, {len(runs)} | {shown}, {'clean' if clean else 'corrupted'} | "
                    f"{100 * ece:.1f} → {100 * after:.1f} | {loss:.2f} → {loss_after:.2f} | {rise:+.2f} |"
                )


def _interval(changes: np.ndarray) -> tuple[float, float]:
    """Interval of the mean of `[seeds, examples]`, the examples drawn in blocks."""
    blocks = changes.mean(axis=0)[: changes.shape[1] // _BLOCK * _BLOCK].reshape(-1, _BLOCK).mean(axis=1)
    draw = np.random.default_rng(0).integers(0, len(blocks), (_BOOTSTRAP, len(blocks)))
    low, high = np.quantile(blocks[draw].mean(axis=1), [0.025, 0.975]).tolist()
    return low, high
