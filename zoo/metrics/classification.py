"""Classification metrics with example weights and bootstrap intervals, in plain NumPy.

Everything is a function of the weights: a resample that draws an example twice gives it twice its weight. So one value
and a thousand resamples share the code, and whatever does not depend on weights (the order of the scores) is computed
once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from zoo.metrics.confusion import aligned

# Each metric `[rows]` from how often each example counts, `[rows, examples]`; NaN where it is undefined.
OfCounts = Callable[[np.ndarray], Mapping[str, np.ndarray]]

LOW, HIGH = "_low", "_high"
# Equal-width bins of the confidence, as in Guo et al. (2017).
_BINS = 15
# Weights per chunk, resamples x examples: 128 KiB stay in the cache; ten times more takes twice as long.
_CHUNK = 1 << 14


class Ranking(NamedTuple):
    """The examples by descending score of one class."""

    order: np.ndarray  # [examples]
    positive: np.ndarray  # [examples], 1 where the example at this rank is of the class
    starts: np.ndarray  # [distinct scores], the first rank of each: tied examples share a threshold


class _Predictions(NamedTuple):
    """Per-example quantities that metrics are computed from; each `[examples]`."""

    cells: np.ndarray  # true class * classes + predicted class
    bins: np.ndarray  # bin of the confidence
    gaps: np.ndarray  # correct - confidence
    losses: np.ndarray  # cross-entropy in nats
    weights: np.ndarray
    rankings: list[Ranking]
    classes: tuple[str, ...]


def classification(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], weights: np.ndarray | None = None
) -> dict[str, float]:
    """Metrics by name, equal to scikit-learn's with `sample_weight`, also for tied scores.

    `precision`, `recall` and `f1` are those of class 1 with two classes, and macro averages (the plain mean over
    classes) with more. The same holds for `auc` (area under the ROC curve) and `average_precision`, one class against
    the rest; a class that is absent, or the only one present, is left out of their mean. `majority_share` is the share
    of the largest class, the accuracy of always answering it, and `balanced_accuracy` the mean recall of the classes
    that are present. `ece` is the expected
    calibration error of the predicted class in 15 bins (Guo et al., 2017), `log_loss` is in nats.

    Args:
        probabilities: `[examples, classes]`, finite; rows sum to 1.
        labels: `[examples]`, integers from 0 to classes - 1.
        classes: class names, two or more.
        weights: `[examples]`, not negative, or None for 1 each.

    Returns:
        One number per metric. 0 / 0 is 0 for precision, recall and F1; other undefined metrics are omitted.

    Raises:
        ValueError: the arguments do not fit each other or the above.
    """
    predictions = _predictions(probabilities, labels, classes, weights)
    metrics = {name: float(values[0]) for name, values in _metrics(predictions, predictions.weights[None]).items()}
    return {name: value for name, value in metrics.items() if not np.isnan(value)}


def confusion(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], weights: np.ndarray | None = None
) -> np.ndarray:
    """The confusion matrix `[classes (true), classes (predicted)]`: int64 counts, or float64 sums of the weights.

    The arguments and errors are those of `classification`.
    """
    predictions = _predictions(probabilities, labels, classes, weights)
    matrix = _matrices(predictions, predictions.weights[None])[0]
    return matrix.astype(np.int64) if weights is None else matrix


def intervals(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    weights: np.ndarray | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals over examples (Efron, 1979), by the names of `classification`.

    They show the variation between test sets of this size, not between training runs. The interval of `ece` is biased
    upwards by the noise of the resampling.

    Args:
        probabilities: `[examples, classes]`, see `classification`.
        labels: `[examples]`, see `classification`.
        classes: class names.
        weights: `[examples]`, or None; multiplied by how often a resample draws the example.
        resamples: number of resamples; one in which a metric is undefined is left out of this metric's interval.
        seed: seed of the resamples.
        level: fraction of resamples inside the interval.

    Returns:
        Low and high end by metric, without metrics that are undefined in all resamples.

    Raises:
        ValueError: the arguments do not fit (see `classification`); no resamples; `level` not between 0 and 1.
    """
    compute = of_counts(probabilities, labels, classes, weights)
    return bootstrap(compute, len(labels), resamples, seed, level)


def of_counts(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], weights: np.ndarray | None = None
) -> OfCounts:
    """The metrics as a function of how often each example counts; arguments and errors as in `classification`."""
    predictions = _predictions(probabilities, labels, classes, weights)
    return lambda counts: _metrics(predictions, counts * predictions.weights)


def bootstrap(
    compute: OfCounts, examples: int, resamples: int, seed: int, level: float
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of any metrics, see `intervals`.

    Args:
        compute: computes each metric `[rows]` from how often each example is drawn, `[rows, examples]`; NaN where it
            is undefined.
        examples: number of examples.
        resamples: number of resamples.
        seed: seed of the resamples.
        level: fraction of resamples inside the interval.

    Raises:
        ValueError: no resamples; `level` not between 0 and 1.
    """
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"{resamples} resamples at level {level}: expected 1 or more, and 0 < level < 1")
    tails = (1 - level) / 2, (1 + level) / 2
    result = {}
    for name, values in resampled(compute, examples, resamples, seed).items():
        values = values[~np.isnan(values)]
        if len(values):
            low, high = np.quantile(values, tails)
            result[name] = float(low), float(high)
    return result


def resampled(compute: OfCounts, examples: int, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Each metric in each resample, float64 `[resamples]`; arguments as in `bootstrap`."""
    chunks = [compute(counts) for counts in _draws(examples, resamples, seed)]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def with_intervals(metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Metrics, followed by the ends of their intervals as `NAME_low` and `NAME_high`."""
    ends = {f"{name}{end}": value for name, bounds in intervals.items() for end, value in zip((LOW, HIGH), bounds)}
    return {**metrics, **ends}


def table(metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> str:
    """A table of metric, value and interval for a terminal; intervals may be missing, and `support/` is a count."""
    rows = [("metric", "value", "95 % interval")]
    for name, value in metrics.items():
        low, high = intervals.get(name, (None, None))
        shown = f"{value:.0f}" if name.startswith("support/") else f"{value:.4f}"
        rows.append((name, shown, "" if low is None else f"{low:.4f} .. {high:.4f}"))
    return aligned(rows)


def _predictions(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], weights: np.ndarray | None
) -> _Predictions:
    """Checks the arguments of a public function, and computes everything that needs no weights."""
    probabilities, labels, classes = np.asarray(probabilities), np.asarray(labels), tuple(map(str, classes))
    weights = np.ones(len(labels) if labels.ndim else 0) if weights is None else np.asarray(weights, np.float64)
    # A probability of 0 may be anything below the precision of its dtype.
    epsilon = np.finfo(probabilities.dtype if probabilities.dtype.kind == "f" else np.float64).eps
    probabilities = probabilities.astype(np.float64)
    _check_shapes(probabilities, labels, classes, weights)
    _check_values(probabilities, labels, weights)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    of_label = np.take_along_axis(probabilities, labels[:, None].astype(np.int64), axis=1)[:, 0]
    ranked = [1] if len(classes) == 2 else range(len(classes))
    return _Predictions(
        cells=labels.astype(np.int64) * len(classes) + predicted,
        # A bin includes its upper edge, not its lower one.
        bins=np.searchsorted(np.arange(1, _BINS) / _BINS, confidence),
        gaps=(predicted == labels) - confidence,
        losses=-np.log(np.clip(of_label, epsilon, 1 - epsilon)),
        weights=weights,
        rankings=[ranking(probabilities[:, k], labels == k) for k in ranked],
        classes=classes,
    )


def _check_shapes(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], weights: np.ndarray) -> None:
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(
            f"{len(classes)} classes, {len(set(classes))} of them distinct: expected two or more, distinct"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iub" or len(labels) == 0:
        raise ValueError(f"labels are {labels.dtype} {list(labels.shape)}: expected integers, one or more: [examples]")
    if probabilities.shape != (len(labels), len(classes)):
        raise ValueError(
            f"probabilities have the shape {list(probabilities.shape)}: expected {[len(labels), len(classes)]}, "
            "[examples, classes]"
        )
    if weights.shape != labels.shape:
        raise ValueError(f"weights have the shape {list(weights.shape)}: expected {list(labels.shape)}, [examples]")


def _check_values(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> None:
    count = probabilities.shape[1]
    if labels.min() < 0 or labels.max() >= count:
        raise ValueError(f"labels from {labels.min()} to {labels.max()}: expected 0 to {count - 1}")
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities are not all finite")
    # 1e-2: rounded to half precision they are still probabilities; logits are not.
    if probabilities.min() < 0 or np.abs(probabilities.sum(axis=1) - 1).max() > 1e-2:
        raise ValueError("probabilities are negative or do not sum to 1: expected a softmax over the classes")
    if not (np.isfinite(weights).all() and weights.min() >= 0 and weights.sum() > 0):
        raise ValueError("weights are negative, not finite or all 0")


def ranking(scores: np.ndarray, positive: np.ndarray) -> Ranking:
    """The examples by descending score `[examples]`; `positive` is 1 where an example is of the class."""
    order = np.argsort(-scores, kind="stable")
    changes = np.flatnonzero(np.diff(scores[order])) + 1
    return Ranking(order, positive[order].astype(np.float64), np.concatenate([[0], changes]))


def _draws(examples: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Bootstrap resamples in chunks: how often each example is drawn, `[resamples of the chunk, examples]`."""
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK // examples)
    for start in range(0, resamples, rows):
        indices = generator.integers(0, examples, (min(rows, resamples - start), examples))
        yield sums(indices, np.ones(indices.shape), examples)


def _metrics(predictions: _Predictions, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Each metric for each row of weights `[resamples, examples]`: `[resamples]`, NaN where it is undefined."""
    total = weights.sum(axis=1)
    matrices = _matrices(predictions, weights)
    areas = np.array([curves(each, weights) for each in predictions.rankings])  # [rankings, 2, resamples]
    result = matrix_metrics(matrices, predictions.classes)
    result["auc"], result["average_precision"] = mean_of_defined(areas)
    result["ece"] = ratio(np.abs(sums(predictions.bins, weights * predictions.gaps, _BINS)).sum(axis=1), total)
    # einsum, not @: BLAS threads would wait for each other on a busy machine, and sum in an order of their own.
    result["log_loss"] = ratio(np.einsum("re,e->r", weights, predictions.losses), total)
    # A resample may draw only examples of weight 0.
    return {name: np.where(total > 0, values, np.nan) for name, values in result.items()}


def _matrices(predictions: _Predictions, weights: np.ndarray) -> np.ndarray:
    """Confusion matrices `[resamples, classes (true), classes (predicted)]`."""
    count = len(predictions.classes)
    return sums(predictions.cells, weights, count * count).reshape(-1, count, count)


def matrix_metrics(matrices: np.ndarray, classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Metrics `[resamples]` that are functions of confusion matrices `[resamples, classes (true), classes]`."""
    hits = np.diagonal(matrices, axis1=1, axis2=2)  # [resamples, classes]
    true, predicted = matrices.sum(axis=2), matrices.sum(axis=1)
    by_class = {
        "precision": ratio(hits, predicted, 0.0),
        "recall": ratio(hits, true, 0.0),
        "f1": ratio(2 * hits, true + predicted, 0.0),
    }
    total = true.sum(axis=1)
    overall = {
        "accuracy": ratio(hits.sum(axis=1), total),
        "majority_share": ratio(true.max(axis=1), total),
        "balanced_accuracy": mean_of_defined(ratio(hits, true).T),
    }
    macro = {name: values.mean(axis=1) for name, values in by_class.items()}
    own = {name: values[:, 1] for name, values in by_class.items()} if len(classes) == 2 else macro
    result = overall | own
    result["f1_macro"] = macro["f1"]
    result["f1_weighted"] = ratio((by_class["f1"] * true).sum(axis=1), true.sum(axis=1))
    result["precision_macro"], result["recall_macro"] = macro["precision"], macro["recall"]
    for k, label in enumerate(classes):
        result |= {f"{name}/{label}": values[:, k] for name, values in by_class.items()}
    return result


def curves(ranking: Ranking, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve and average precision of one class against the rest, each `[resamples]`."""
    ordered = weights[:, ranking.order]
    positive = ordered * ranking.positive
    negative = ordered - positive
    if len(ranking.starts) < len(ranking.order):
        positive, negative = (np.add.reduceat(part, ranking.starts, axis=1) for part in (positive, negative))
    # Cumulative weights at each threshold, [resamples, thresholds].
    true_positives, false_positives = positive.cumsum(axis=1), negative.cumsum(axis=1)
    precision = ratio(true_positives, true_positives + false_positives, 0.0)
    positives, negatives = true_positives[:, -1], false_positives[:, -1]
    # Pairs in the right order; a tied pair counts half.
    area = ratio(np.einsum("rt,rt->r", negative, true_positives - positive / 2), positives * negatives)
    average = ratio(np.einsum("rt,rt->r", positive, precision), positives)
    return area, np.where(negatives > 0, average, np.nan)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """The mean over the first axis without NaN; NaN where all values are."""
    return ratio(np.nansum(values, axis=0), (~np.isnan(values)).sum(axis=0))


def sums(groups: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Sums of values `[rows, examples]` by group, int `[examples]` or one per value: `[rows, count]`."""
    rows = len(values)
    indices = groups + count * np.arange(rows)[:, None]
    return np.bincount(indices.ravel(), values.ravel(), rows * count).reshape(rows, count)  # [rows, count]


def ratio(numerator: np.ndarray, denominator: np.ndarray, otherwise: float = np.nan) -> np.ndarray:
    """The quotient, or `otherwise` where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), otherwise), where=denominator > 0)
