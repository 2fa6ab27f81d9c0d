"""Metrics of multi-label classification with example weights and bootstrap intervals, equal to scikit-learn's.

As in `classification`, everything is a function of the examples' weights, which a resample multiplies.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from zoo.metrics import classification
from zoo.metrics.classification import mean_of_defined, ratio


class _Answers(NamedTuple):
    """Per-example quantities that metrics are computed from."""

    true: np.ndarray  # float64 [examples, labels]
    predicted: np.ndarray  # float64 [examples, labels]
    losses: np.ndarray  # [examples], mean cross-entropy of the labels
    rankings: list
    weights: np.ndarray  # [examples]


def metrics(
    logits: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    weights: np.ndarray | None = None,
    *,
    resamples: int = 0,
    thresholds: np.ndarray | float = 0.5,
) -> dict[str, float]:
    """Metrics by name.

    `f1_micro` (and precision and recall) is that of all pairs of an example and a label, `f1_macro` the mean over the
    labels; `subset_accuracy` the share of examples all of whose labels are right, `hamming_loss` the share of pairs
    that are wrong; `average_precision` and `auc` are means over the labels that have examples with and without them;
    `log_loss` is the mean cross-entropy of a pair in nats.

    Beside them stands what needs no model: `trivial_hamming_loss` and `trivial_subset_accuracy` of each label's more
    frequent value for all examples; `trivial_f1_micro` and `trivial_f1_macro` of all labels for all examples (the more
    frequent value is mostly no, with an F1 of 0); `trivial_average_precision` of a constant score.

    Args:
        logits: `[examples, labels]`; the sigmoid gives the probability of each label.
        labels: 0 or 1, `[examples, labels]`.
        names: names of the labels, for `precision/NAME`, `recall/NAME`, `f1/NAME` and `average_precision/NAME`.
        weights: `[examples]`, or None for 1 each.
        resamples: number of bootstrap resamples for 95 % intervals, `METRIC_low` and `METRIC_high`; 0: none.
        thresholds: probability of each label from which on it is predicted.
    """
    answers = _answers(logits, labels, weights, thresholds)

    def compute(counts: np.ndarray) -> dict[str, np.ndarray]:
        return _metrics(answers, counts * answers.weights, names)

    examples = len(answers.true)
    values = {name: float(value[0]) for name, value in compute(np.ones((1, examples))).items()}
    values = {name: value for name, value in values.items() if not np.isnan(value)}
    if not resamples:
        return values
    return classification.with_intervals(values, classification.bootstrap(compute, examples, resamples, 0, 0.95))


def decided(
    logits: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    thresholds: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    resamples: int = 1000,
) -> dict[str, float]:
    """Metrics that depend on thresholds, as `NAME_decided`, with intervals; arguments as in `metrics`."""
    found = metrics(logits, labels, names, weights, resamples=resamples, thresholds=thresholds)
    result = {}
    for name in ("f1_micro", "f1_macro", "subset_accuracy", "hamming_loss"):
        result |= {f"{name}_decided{end}": found[f"{name}{end}"] for end in ("", "_low", "_high")}
    return result


def leads(
    one: np.ndarray, other: np.ndarray, labels: np.ndarray, weights: np.ndarray | None, resamples: int
) -> dict[str, tuple[float, float, float]]:
    """How much higher `f1_micro` and `average_precision` of one model are, with paired 95 % bootstrap intervals.

    Args:
        one: logits `[examples, labels]`.
        other: those of the other model.
        labels: 0 or 1, `[examples, labels]`.
        weights: `[examples]`, or None.
        resamples: number of resamples.
    """
    both = [of_counts(logits, labels, weights) for logits in (one, other)]

    def compute(counts: np.ndarray) -> dict[str, np.ndarray]:
        first, second = (each(counts) for each in both)
        return {name: first[name] - second[name] for name in ("f1_micro", "average_precision")}

    values = compute(np.ones((1, len(labels))))
    ends = classification.bootstrap(compute, len(labels), resamples, 0, 0.95)
    return {name: (float(values[name][0]), *ends[name]) for name in ends}


def of_counts(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> classification.OfCounts:
    """The metrics, but for those of single labels, as a function of how often each example counts; see `metrics`."""
    answers = _answers(logits, labels, weights, 0.5)
    return lambda counts: _metrics(answers, counts * answers.weights, ())


def _answers(logits, labels, weights, thresholds) -> _Answers:
    logits, true = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    # As predictions have them.
    predicted = special.expit(logits).astype(np.float32) >= np.asarray(thresholds)
    losses = (np.logaddexp(0.0, logits) - true * logits).mean(axis=1)
    rankings = [classification.ranking(logits[:, label], true[:, label]) for label in range(true.shape[1])]
    weights = np.ones(len(true)) if weights is None else np.asarray(weights, np.float64)
    return _Answers(true, predicted.astype(np.float64), losses, rankings, weights)


def _metrics(answers: _Answers, weights: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Each metric for each row of weights `[resamples, examples]`: `[resamples]`, NaN where it is undefined."""
    total = weights.sum(axis=1)
    hits = _sums(weights, answers.true * answers.predicted)  # [resamples, labels]
    true, predicted = _sums(weights, answers.true), _sums(weights, answers.predicted)
    by_label = {
        "precision": ratio(hits, predicted, 0.0),
        "recall": ratio(hits, true, 0.0),
        "f1": ratio(2 * hits, true + predicted, 0.0),
    }
    curves = np.array([classification.curves(ranking, weights) for ranking in answers.rankings])
    areas, precisions = curves[:, 0], curves[:, 1]  # [labels, resamples]
    wrong = answers.true != answers.predicted
    sums = hits.sum(axis=1), true.sum(axis=1), predicted.sum(axis=1)
    result = {
        "f1_micro": ratio(2 * sums[0], sums[1] + sums[2], 0.0),
        "f1_macro": by_label["f1"].mean(axis=1),
        "precision_micro": ratio(sums[0], sums[2], 0.0),
        "recall_micro": ratio(sums[0], sums[1], 0.0),
        "subset_accuracy": ratio(_sums(weights, ~wrong.any(axis=1)), total),
        "hamming_loss": ratio(_sums(weights, wrong.mean(axis=1)), total),
        "average_precision": mean_of_defined(precisions),
        "auc": mean_of_defined(areas),
        "log_loss": ratio(_sums(weights, answers.losses), total),
    }
    result |= _trivial(answers.true, weights, ratio(true, total[:, None]), precisions)
    for label, name in enumerate(names):
        result |= {f"{metric}/{name}": values[:, label] for metric, values in by_label.items()}
        result[f"average_precision/{name}"] = precisions[label]
    # A resample may draw only examples of weight 0.
    return {name: np.where(total > 0, values, np.nan) for name, values in result.items()}


def _trivial(
    true: np.ndarray, weights: np.ndarray, shares: np.ndarray, precisions: np.ndarray
) -> dict[str, np.ndarray]:
    """What the same answer for all examples reaches; `shares` of the labels, `[resamples, labels]`."""
    usual = shares > 0.5
    as_usual = np.stack([(true == row).all(axis=1) for row in usual])  # [resamples, examples]
    defined = np.where(np.isnan(precisions.T), np.nan, shares)
    return {
        "trivial_f1_micro": ratio(2 * shares.sum(axis=1), shares.sum(axis=1) + shares.shape[1]),
        "trivial_f1_macro": (2 * shares / (1 + shares)).mean(axis=1),
        "trivial_subset_accuracy": ratio(np.einsum("re,re->r", weights, as_usual), weights.sum(axis=1)),
        "trivial_hamming_loss": np.minimum(shares, 1 - shares).mean(axis=1),
        "trivial_average_precision": mean_of_defined(defined.T),
    }


def _sums(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    # einsum, not @: BLAS threads would wait for each other on a busy machine, and sum in an order of their own.
    return np.einsum("re,e...->r...", weights, np.asarray(values, np.float64))
