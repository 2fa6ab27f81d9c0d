"""Columns of a table in another unit or from another sensor (`--refine=input`): scaled back, also under label shift.

A column that has been multiplied and moved keeps its shape: its quantiles are those of validation, mixed by the class
proportions of the stream, up to an affine function, which is fitted and undone. It is the input's form of adapted
normalisation (Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation", 2020).
Class proportions move all columns in a way that they alone explain; a column that they do not explain has drifted. Both
are found together, by a fit that outliers do not decide (Cauchy loss: Barron, "A general and adaptive robust loss
function", 2019), from moments by class (Lipton et al., "Detecting and correcting for label shift with black box
predictors", 2018). Where few columns tell the classes apart, nothing is changed: wrong proportions would decide the
predictions.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy import linalg, optimize, stats

from zoo.adaptation.stage import LogitsFn, StreamContext
from zoo.data.datasets.column_schema import UNSEEN
from zoo.errors import BadInput
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.predictor import Classifier

# Where distributions are compared, and between which quantiles a line is fitted: tails are of few examples.
_LEVELS = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
_QUANTILES = np.linspace(0.05, 0.95, 19)
# Fewer examples estimate quantiles worse than the source's values do; and of a class, a distribution.
_FEWEST, _FEWEST_OF_CLASS = 32, 10
# A column of fewer different values is a code or a count, which nobody scales.
_FEWEST_VALUES = 10
# Probability that a column seems to drift by chance; Bonferroni's correction is for all columns and levels.
_CHANCE = 1e-4
# Largest standard error of a class proportion. A column is scaled to these proportions: where they are wrong, so are
# the predictions, for which they then decide.
_UNSURE = 0.06
_TINY = 1e-9
# Most iterations for the class proportions, the change that ends them, and the weight of their sum.
_ITERATIONS, _CONVERGED, _SUM = 30, 1e-3, 1e3


class Affine(NamedTuple):
    """What was done to each column: `x` became `scale x + offset`, each `[columns]`."""

    scale: np.ndarray
    offset: np.ndarray


class _Recent(NamedTuple):
    """Recent examples.

    Attributes:
        x: `[examples, columns]`.
        below: share of the values of each chosen column up to each threshold, `[levels, chosen columns]`.
        distinct: number of different examples; repetitions say nothing new.
        counted: whether a chosen column has values enough, bool `[chosen columns]`.
    """

    x: np.ndarray
    below: np.ndarray
    distinct: int
    counted: np.ndarray


class Columns:
    """Undoes affine changes of single columns of a table.

    Args:
        optional: whether to go without it where the model or the validation split does not allow it.

    Attributes:
        drifted: whether columns of the recent examples have drifted, scaled back or not, or have more or fewer missing
            values or unknown categories.
    """

    name, target = "columns", "input"
    # Chosen with `_UNSURE`, on made tables and on other splits than those of any figure.
    max_score_ratio, restarts_each_batch = 0.8, True

    def __init__(self, optional: bool = False):
        self._optional, self._change, self._obstacle = optional, None, ""
        self.drifted = False

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Measures the distribution of each column by class.

        Raises:
            BadInput: the model does not read numbers of a table, or the validation split has too few examples of a
                class; an optional stage then proposes nothing.
        """
        self._obstacle = _obstacle(predictor, source)
        if self._obstacle:
            if not self._optional:
                raise BadInput(f"--refine=input: {self._obstacle}")
            return
        x = np.asarray(source.examples, np.float64)
        self._chosen = _numbers(predictor, x)
        self._x, self._labels = x[:, self._chosen], source.labels
        self._counts = np.bincount(source.labels)
        self._thresholds = np.nanquantile(self._x, _LEVELS, axis=0)  # [levels, chosen columns]
        groups = [self._below(self._x[self._labels == label]) for label in range(len(self._counts))]
        self._by_class = np.stack(groups)  # [classes, levels, chosen columns]
        self._categories = _categories(predictor, x)
        self._unknown = np.stack([self._unknown_share(x[source.labels == label]) for label in range(len(self._counts))])

    def propose(self, context: StreamContext) -> str:
        """Fits scale and offset of each column that has drifted."""
        self.drifted = False
        if self._obstacle:
            return self._obstacle
        x = np.asarray(context.recent, np.float64)
        chosen = x[:, self._chosen]
        counted = (~np.isnan(chosen)).sum(axis=0) >= _FEWEST
        recent = _Recent(x, self._below(chosen), len(np.unique(x, axis=0)), counted)
        if recent.distinct < _FEWEST or not counted.any():
            return f"{recent.distinct} different examples are too few, expected {_FEWEST} with values"
        shares = self._shares(recent)
        drifted, unknown = self._drifted(recent, shares), self._unknown_drifted(recent, shares)
        self.drifted = bool(drifted.any() or unknown.any())
        if not drifted.any():
            return "values or categories are missing" if unknown.any() else "no column has drifted"
        error = self._error(recent, shares, drifted)
        if error > _UNSURE:
            return f"the other columns tell no class proportions (standard error {error:.2f}, expected {_UNSURE})"
        change = self._fit(recent, shares, drifted)
        if self._has_ended(np.asarray(context.batch, np.float64), change, shares):
            return "the last examples have not drifted"
        self._change = change
        return ""

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Logits of the examples with their columns scaled back; of the examples themselves before a drift."""
        if self._change is None:
            return inner(examples)
        restored = (np.asarray(examples, np.float64) - self._change.offset) / self._change.scale
        return inner(restored.astype(np.float32))

    def state(self) -> Any:
        """Scale and offset of each column; None before a drift."""
        return None if self._change is None else [each.tolist() for each in self._change]

    def load(self, state: Any) -> None:
        """Sets them."""
        self._change = None if state is None else Affine(*map(np.array, state))

    def _has_ended(self, batch: np.ndarray, change: Affine, shares: np.ndarray) -> bool:
        """Whether the columns of the batch are more like validation as they are: earlier examples had drifted."""
        mixture = np.tensordot(shares, self._by_class, 1)  # [levels, chosen columns]
        changed = (change.scale[self._chosen] != 1) | (change.offset[self._chosen] != 0)
        if not changed.any() or not len(batch):
            return False
        restored = (batch - change.offset) / change.scale
        gaps = [np.abs(self._below(x[:, self._chosen]) - mixture)[:, changed].mean() for x in (batch, restored)]
        return gaps[0] <= gaps[1]

    def _below(self, x: np.ndarray) -> np.ndarray:
        """Share of the values of each column up to each threshold, `[levels, chosen columns]`, without missing ones."""
        among = ~np.isnan(x)
        return np.stack([(x <= each).sum(axis=0) / np.maximum(among.sum(axis=0), 1) for each in self._thresholds])

    def _gaps(self, recent: _Recent, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Differences from the mixture of the classes, and their standard errors, `[levels, counted columns]`."""
        mixture = np.tensordot(shares, self._by_class, 1)
        # Distributions of the classes are estimates, too; one that seems to be constant is not quite.
        rough = (self._by_class * self._counts[:, None, None] + 0.5) / (self._counts[:, None, None] + 1)
        by_class = np.tensordot(shares**2 / self._counts, rough * (1 - rough), 1)
        middle = (mixture * recent.distinct + 0.5) / (recent.distinct + 1)
        errors = np.sqrt(middle * (1 - middle) / recent.distinct + by_class)
        return (recent.below - mixture)[:, recent.counted], errors[:, recent.counted]

    def _shares(self, recent: _Recent) -> np.ndarray:
        """Class proportions that explain as many columns as possible, `[classes]`: a column that drifts has no say.

        Iteratively reweighted least squares with the weights of the Cauchy loss, from two starts.
        """
        source = self._counts / self._counts.sum()
        design, measured = self._by_class[:, :, recent.counted], recent.below[:, recent.counted]
        best, least = source, np.inf
        for shares in (source, np.full(len(source), 1 / len(source))):
            for _ in range(_ITERATIONS):
                before, (gaps, errors) = shares, self._gaps(recent, shares)
                weights = 1 / errors / np.sqrt(1 + np.mean((gaps / errors) ** 2, axis=0))  # [levels, counted columns]
                rows = (design * weights).reshape(len(source), -1).T  # [levels * counted columns, classes]
                # Proportions add up to 1, and stay near the source's where the columns do not tell them.
                rows = np.concatenate([rows, np.full((1, len(source)), _SUM), np.eye(len(source))])
                target = np.concatenate([(measured * weights).ravel(), [_SUM], source])
                shares = np.maximum(optimize.nnls(rows, target)[0], _TINY)
                shares /= shares.sum()
                if np.abs(shares - before).sum() < _CONVERGED:
                    break
            gaps, errors = self._gaps(recent, shares)
            loss = float(np.log1p(np.mean((gaps / errors) ** 2, axis=0)).sum())
            if loss < least:
                best, least = shares, loss
        return best

    def _drifted(self, recent: _Recent, shares: np.ndarray) -> np.ndarray:
        """Whether each counted column is unlike the mixture of the classes, bool."""
        gaps, errors = self._gaps(recent, shares)
        limit = stats.norm.isf(_CHANCE / 2 / gaps.size)
        return np.abs(gaps / errors).max(axis=0) > limit

    def _unknown_share(self, x: np.ndarray) -> np.ndarray:
        """Share of the values of each column that are missing, or of a category that training lacked, `[columns]`."""
        return (np.isnan(x) | (self._categories & (x == UNSEEN))).mean(axis=0)

    def _unknown_drifted(self, recent: _Recent, shares: np.ndarray) -> np.ndarray:
        """Whether other shares of the columns are unknown than in the mixture of the classes, bool `[columns]`."""
        rough = (self._unknown * self._counts[:, None] + 0.5) / (self._counts[:, None] + 1)
        mixture = np.clip(shares @ rough, 1 / (recent.distinct + 1), None)
        errors = np.sqrt(mixture * (1 - mixture) / recent.distinct + (shares**2 / self._counts) @ (rough * (1 - rough)))
        gaps = self._unknown_share(recent.x) - shares @ self._unknown
        return np.abs(gaps / errors) > stats.norm.isf(_CHANCE / 2 / len(gaps))

    def _error(self, recent: _Recent, shares: np.ndarray, drifted: np.ndarray) -> float:
        """Largest standard error of a class proportion by the columns that have not drifted.

        The most telling one is left out: where it alone tells, it may be the one that has drifted.
        """
        errors = self._gaps(recent, shares)[1]
        design = (self._by_class[:, :, recent.counted] / errors)[:, :, ~drifted]  # [classes, levels, columns]
        # Levels of a column are not independent: five tell as much as about two.
        by_column = np.einsum("alc,blc->cab", design, design) * (2 / len(_LEVELS))  # [columns, classes, classes]
        # Proportions add up to 1: one class fewer is free.
        free = linalg.null_space(np.ones((1, len(shares))))
        without = free.T @ (by_column.sum(axis=0) - by_column) @ free + _TINY * np.eye(len(shares) - 1)
        variances = np.einsum("ai,cij,aj->ca", free, np.linalg.inv(without), free)  # [columns, classes]
        return float(np.sqrt(variances.max(initial=0.0))) if len(variances) else np.inf

    def _fit(self, recent: _Recent, shares: np.ndarray, drifted: np.ndarray) -> Affine:
        """Lines from the quantiles of validation, mixed by class proportions, to those of the stream."""
        change = Affine(np.ones(recent.x.shape[1]), np.zeros(recent.x.shape[1]))
        weights = (shares / self._counts)[self._labels]
        for place in np.flatnonzero(recent.counted)[drifted]:
            column = self._chosen[place]
            expected = _weighted_quantiles(self._x[:, place], weights)
            measured = np.nanquantile(recent.x[:, column], _QUANTILES)
            if expected.std() > _TINY:
                # A sensor that is stuck tells nothing: where it stands at validation's mean, it does the least harm.
                scale = measured.std() / expected.std() if measured.std() > _TINY else 1.0
                change.scale[column], change.offset[column] = scale, measured.mean() - scale * expected.mean()
        return change


def _obstacle(predictor: Classifier, source: HeldOut) -> str:
    """Why there is nothing to fit; "" where there is."""
    if predictor.reads_text or len(predictor.shape) != 1 or predictor.dtype.kind != "f":
        return "the model reads no numbers of a table, whose columns could be scaled"
    counts = np.bincount(source.labels, minlength=len(predictor.classes))
    if counts.min() < _FEWEST_OF_CLASS:
        name = predictor.classes[int(counts.argmin())]
        return f"the validation split has {counts.min()} examples of {name!r}; expected {_FEWEST_OF_CLASS}"
    if not len(_numbers(predictor, np.asarray(source.examples, np.float64))):
        return "the table has no column of numbers"
    return ""


def _numbers(predictor: Classifier, x: np.ndarray) -> np.ndarray:
    """Indices of the columns that are measurements: no categories, and of many values."""
    values = np.array([len(np.unique(column[~np.isnan(column)])) for column in x.T])
    return np.flatnonzero(~_categories(predictor, x) & (values >= _FEWEST_VALUES))


def _categories(predictor: Classifier, x: np.ndarray) -> np.ndarray:
    """Whether each column is of categories, bool `[columns]`."""
    categories = np.zeros(x.shape[1]) if predictor.columns is None else np.array(predictor.columns.categories)
    return categories > 0


def _weighted_quantiles(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`_QUANTILES` of values with weights, NaN left out."""
    order = np.argsort(values)
    order = order[: int((~np.isnan(values)).sum())]
    ends = np.cumsum(weights[order])
    return np.interp(_QUANTILES, (ends - weights[order] / 2) / ends[-1], values[order])
