"""A multi-label classifier beside one logistic regression and one gradient boosting per label, on the same split."""

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import threadpoolctl

from zoo.data.datasets.text_splits import TextDataset
from zoo.data.splits import Columns, Splits
from zoo.metrics import boosting, linear_baselines, multi_label

# Candidates for the inverse L2 strength; chosen for each label on the validation split.
_STRENGTHS = (0.01, 0.1, 1.0)
# Logit of a label that no training example has.
_IMPROBABLE = -5.0
_RESAMPLES = 1000
_SAID = {"baseline": "logistic regression", "boosting": "gradient boosting"}
_METRICS = ("f1_micro", "f1_macro", "subset_accuracy", "hamming_loss", "average_precision", "auc")
_SHOWN = {"f1_micro": "micro F1", "average_precision": "average precision"}


class LabelComparison:
    """A network and simpler models on the same test examples.

    Args:
        metrics: an `Experiment.compute_metrics`, the network's own.
        true: 0 or 1, `[examples, labels]`.
        weights: weights of the examples, or None.
        models: for "baseline", and perhaps "boosting", a function that returns logits `[examples, labels]`.
        problem: why one is missing, to be said at the end.
    """

    def __init__(
        self,
        metrics: Callable[..., Mapping[str, float]],
        true: np.ndarray,
        weights: np.ndarray | None,
        models: Mapping[str, Callable[[], np.ndarray]],
        problem: str = "",
    ):
        self._metrics, self._true, self._weights = metrics, true, weights
        self._models, self._problem = models, problem
        self._logits: np.ndarray | None = None

    def compute_metrics(self, means, outputs, columns, final: bool) -> Mapping[str, float]:
        """An `Experiment.compute_metrics`: the network's own; keeps its logits of the final evaluation."""
        if final:
            self._logits = np.asarray(outputs["logits"])
        return self._metrics(means, outputs, columns, final)

    def metrics(self) -> dict[str, float]:
        """An `Experiment.baseline`: metrics of each as `test/baseline_f1_micro`, `test/boosting_f1_micro` and so on.

        The network's leads are `test/f1_micro_over_baseline`, `test/average_precision_over_boosting` and so on, with
        the ends of their 95 % bootstrap intervals.
        """
        true, weights, result = self._true, self._weights, {}
        for name, model in self._models.items():
            logits = model()
            scores = multi_label.metrics(logits, true, (), weights)
            result |= {f"test/{name}_{metric}": scores[metric] for metric in _METRICS if metric in scores}
            if self._logits is not None:
                for metric, lead in multi_label.leads(self._logits, logits, true, weights, _RESAMPLES).items():
                    names = (f"test/{metric}_over_{name}{end}" for end in ("", "_low", "_high"))
                    result |= dict(zip(names, lead))
        return result

    def conclusion(self, result: Mapping[str, float]) -> Sequence[str]:
        """An `Experiment.conclusion`: the network's leads over the others."""
        lines = []
        for name, said in _SAID.items():
            parts = []
            for metric, shown in _SHOWN.items():
                lead, low, high = (result.get(f"test/{metric}_over_{name}{end}") for end in ("", "_low", "_high"))
                if lead is not None:
                    parts.append(
                        f"{shown} {result[f'test/{name}_{metric}']:.4f}, lead {lead:+.4f} (95 % interval {low:+.4f} to "
                        f"{high:+.4f})"
                    )
            if parts:
                lines.append(f"{said} for each label: {'; '.join(parts)}")
        return [*lines, *([self._problem] if self._problem else [])]


def of_tables(data: Splits, linear: Splits, metrics: Callable[..., Mapping[str, float]]) -> LabelComparison:
    """Compares with a logistic regression and a gradient boosting of each label.

    Args:
        data: the splits as boosting reads them.
        linear: the same splits as a linear model reads them, scaled and complete.
        metrics: an `Experiment.compute_metrics`, the network's own.
    """

    def logistic() -> np.ndarray:
        kernel, bias = logistic_weights(linear.train, linear.validation)
        return linear.test["x"] @ kernel + bias

    models, problem = {"baseline": logistic}, boosting.too_long(data, max(3, len(data.classes)))
    if not problem:
        models["boosting"] = lambda: boosting.label_logits(data)
    return LabelComparison(metrics, data.test["y"], data.test.get("weight"), models, problem)


def of_texts(texts: TextDataset, metrics: Callable[..., Mapping[str, float]]) -> LabelComparison:
    """Compares with TF-IDF and a logistic regression of each label."""

    def tfidf() -> np.ndarray:
        train, validation, test = linear_baselines.vectorized(texts)
        columns = {"x": train, "y": texts.train.labels}, {"x": validation, "y": texts.validation.labels}
        kernel, bias = logistic_weights(*columns, solver="liblinear", strengths=linear_baselines.TEXT_STRENGTHS)
        return test @ kernel + bias

    return LabelComparison(metrics, texts.test.labels, None, {"baseline": tfidf})


def logistic_weights(
    train: Columns, validation: Columns, *, solver: str = "lbfgs", strengths: Sequence[float] = _STRENGTHS
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of a logistic regression for each label, of the strength with the smallest validation loss.

    Args:
        train: columns `x` `[examples, features]` of unit scale, `y` `[examples, labels]` and perhaps `weight`.
        validation: the same.
        solver: scikit-learn's name of it.
        strengths: candidates for the inverse L2 strength.

    Returns:
        Kernel float32 `[features, labels]` and bias float32 `[labels]`.
    """
    count = train["y"].shape[1]
    kernel, bias = np.zeros((train["x"].shape[1], count), np.float32), np.zeros(count, np.float32)
    with threadpoolctl.threadpool_limits(1):
        for label in range(count):
            y = train["y"][:, label] > 0
            if y.all() or not y.any():
                bias[label] = _IMPROBABLE if not y.any() else -_IMPROBABLE
            else:
                kernel[:, label], bias[label] = _fitted(train, y, validation, label, solver, strengths)
    return kernel, bias


def _fitted(train: Columns, y: np.ndarray, validation: Columns, label: int, solver: str, strengths: Sequence[float]):
    """Coefficients and intercept for one label."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    best, chosen, validation_y = np.inf, None, validation["y"][:, label]
    for strength in strengths:
        with warnings.catch_warnings():
            # 200 steps are enough for the loss to settle, if not for every coefficient.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=strength, max_iter=200, solver=solver, random_state=0)
            model.fit(train["x"], y, sample_weight=train.get("weight"))
        logits = validation["x"] @ model.coef_[0] + model.intercept_[0]
        losses = np.logaddexp(0.0, logits) - validation_y * logits
        loss = float(np.average(losses, weights=validation.get("weight")))
        if loss < best or chosen is None:
            best, chosen = loss, (model.coef_[0], model.intercept_[0])
    return chosen
