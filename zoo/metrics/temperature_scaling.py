"""Calibration of predicted probabilities: temperature scaling, alone or with a bias per class (BCTS).

Correction for label shift and selective prediction need calibrated probabilities, and fully trained networks are
overconfident. Calibration is fitted on examples that the model was not trained on. NumPy and SciPy only.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import optimize, special

from zoo.errors import BadInput

# Bounds of 1 / T. For logits of any common scale the prior below keeps it inside; these are for the others.
_LOWEST, _HIGHEST = 1e-3, 1e3


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Probabilities as softmax(logits / temperature + biases).

    Attributes:
        temperature: T, above 1 for an overconfident model, below 1 for an underconfident one.
        biases: one bias per class, in nats; all 0 for plain temperature scaling.
    """

    temperature: float
    biases: tuple[float, ...]

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float64 `[examples, classes]`; temperature 1 without biases is the plain softmax.

        Args:
            logits: finite logits `[examples, classes]`, zero examples allowed. For one logit see `two_class_logits`.

        Raises:
            ValueError: the logits have another number of classes, or are not finite.
        """
        return special.softmax(self.logits(logits), axis=1)

    def logits(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated logits, float64 `[examples, classes]`; arguments and errors are those of `apply`."""
        logits = _checked(logits)
        if logits.shape[1] != len(self.biases):
            raise ValueError(f"logits of {logits.shape[1]} classes: expected {len(self.biases)}, as were calibrated")
        return logits / self.temperature + np.array(self.biases)

    def as_json(self) -> dict[str, Any]:
        """Fields for `json.dumps`; `from_json` restores an equal calibration."""
        return {"temperature": self.temperature, "biases": list(self.biases)}

    @classmethod
    def from_json(cls, value: Any) -> "Calibration":
        """The calibration from the fields of `as_json`.

        Raises:
            BadInput: the value is something else.
        """
        fields = value if isinstance(value, Mapping) else {}
        temperature, biases = fields.get("temperature"), fields.get("biases")
        good = isinstance(biases, list) and len(biases) >= 2 and all(map(_is_number, [temperature, *biases]))
        if not good or temperature <= 0:
            raise BadInput(
                'calibration: expected {"temperature": above 0, "biases": one number per class}; calibrate again'
            )
        return cls(float(temperature), tuple(map(float, biases)))


def identity(classes: int) -> Calibration:
    """The calibration that changes nothing."""
    return Calibration(1.0, (0.0,) * classes)


def temperature(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Temperature scaling: the T of least log loss (Guo et al., "On calibration of modern neural networks", 2017, 4.2).

    The log loss is convex in 1 / T, so its slope has one root, which bracketing locates. If every example is right,
    plain log loss is least at T = 0; if the logits carry no information, at an infinite T. So the penalty
    `(1/T - 1 + log T) / examples` is added: a Gamma prior with its mode at T = 1 that weighs as one example, keeps T
    finite, and vanishes as examples grow. T stays within 0.001 and 1000.

    The penalty is 0 at T = 1 and positive elsewhere, so the log loss on these examples is never above that of T = 1.

    Args:
        logits: finite logits `[examples, classes]` of examples that the model was not trained on.
        labels: integers `[examples]`, from 0 to classes - 1.

    Raises:
        ValueError: the arguments do not fit each other or the description above.
    """
    logits, labels = _checked(logits, labels)
    of_label = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]

    def slope(inverse: float) -> float:
        expected = np.einsum("ek,ek->e", special.softmax(inverse * logits, axis=1), logits)
        return float(np.mean(expected - of_label)) + (1 - 1 / inverse) / len(labels)

    if slope(_LOWEST) >= 0 or slope(_HIGHEST) <= 0:
        inverse = _LOWEST if slope(_LOWEST) >= 0 else _HIGHEST
    else:
        inverse = optimize.brentq(slope, _LOWEST, _HIGHEST, xtol=1e-12)
    fitted = Calibration(1 / inverse, (0.0,) * logits.shape[1])
    return _better(fitted, identity(logits.shape[1]), logits, labels)


def standard_error(logits: np.ndarray, temperature: float) -> float:
    """Standard error of `log T` where `temperature` has fitted T to these logits, in nats.

    By the curvature of the log loss and of the penalty at `1 / T` (the observed information); from n times as many
    examples it is a root of n times smaller.

    Args:
        logits: finite logits `[examples, classes]`, those that were fitted to.
        temperature: T.

    Raises:
        ValueError: the logits are not as described.
    """
    logits, inverse = _checked(logits), 1 / temperature
    probabilities = special.softmax(inverse * logits, axis=1)
    mean = np.einsum("ek,ek->e", probabilities, logits)  # [examples]
    variance = np.einsum("ek,ek->e", probabilities, (logits - mean[:, None]) ** 2)  # [examples]
    # In units of log T: 1 / T changes by 1 / T times as much.
    return 1 / math.sqrt(inverse**2 * float(variance.sum()) + 1)


def bias_corrected(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Bias-corrected temperature scaling (BCTS): one T, and one bias per class, by log loss.

    Alexandari et al., "Maximum likelihood with bias-corrected calibration is hard-to-beat at label shift adaptation"
    (2020), section 3: a temperature cannot correct a class that is predicted too often throughout, which estimation of
    label shift then mistakes for a shift. The loss is convex in 1 / T and the biases; L-BFGS-B starts from the T of
    `temperature`. In addition to the prior of `temperature`, half the squared biases divided by the number of examples
    are added, so that a class without examples has a finite bias, and the biases sum to 0.

    The log loss on these examples is never above that of `temperature`, and so never above that of T = 1. There are
    `classes - 1` more parameters to fit; with only a few examples of a class, `temperature` generalises better.

    Args:
        logits: finite logits `[examples, classes]` of examples that the model was not trained on.
        labels: integers `[examples]`, from 0 to classes - 1.

    Raises:
        ValueError: the arguments do not fit each other or the description above.
    """
    start = temperature(logits, labels)
    logits, labels = _checked(logits, labels)
    # In units of the logits' standard deviation, so that the search sees 1 / T and biases of similar size.
    unit = max(float(np.std(logits - logits.mean(axis=1, keepdims=True))), 1e-6)
    minimum = optimize.minimize(
        _objective,
        np.array([unit / start.temperature, *start.biases]),
        (logits / unit, labels, unit),
        jac=True,
        method="L-BFGS-B",
        bounds=[(unit * _LOWEST, unit * _HIGHEST), *[(None, None)] * logits.shape[1]],
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000},
    )
    fitted = Calibration(float(unit / minimum.x[0]), tuple(minimum.x[1:].tolist()))
    return _better(fitted, start, logits, labels)


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy in nats; arguments and errors are those of `temperature`."""
    logits, labels = _checked(logits, labels)
    return float(np.mean(_losses(logits, labels)))


def _objective(parameters: np.ndarray, logits: np.ndarray, labels: np.ndarray, unit: float) -> tuple[float, np.ndarray]:
    """Penalised log loss of `bias_corrected`, and its gradient by `unit / T` and the biases: `[1 + classes]`."""
    inverse, biases, examples = parameters[0] / unit, parameters[1:], len(labels)
    scores = parameters[0] * logits + biases
    penalty = inverse - 1 - math.log(inverse) + biases @ biases / 2
    excess = special.softmax(scores, axis=1)
    excess[np.arange(examples), labels] -= 1
    by_scale = np.einsum("ek,ek->", excess, logits) + (1 - 1 / inverse) / unit
    gradient = np.concatenate([[by_scale], excess.sum(axis=0) + biases]) / examples
    return float(np.mean(_losses(scores, labels)) + penalty / examples), gradient


def _better(fitted: Calibration, other: Calibration, logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """The calibration of less log loss, `other` if equal; so the loss is never higher, even by rounding."""
    losses = [float(np.mean(_losses(each.logits(logits), labels))) for each in (fitted, other)]
    return fitted if losses[0] < losses[1] else other


def _losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy in nats, `[examples]`."""
    return special.logsumexp(logits, axis=1) - np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]


def _checked(logits: np.ndarray, labels: np.ndarray | None = None) -> Any:
    logits = np.asarray(logits)
    if logits.ndim != 2 or logits.shape[1] < 2 or logits.dtype.kind not in "fiu":
        raise ValueError(
            f"logits are {logits.dtype} {list(logits.shape)}: expected numbers [examples, classes] with two classes or "
            "more; metrics.logits.two_class_logits makes two logits of one"
        )
    logits = logits.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(wrong):
        raise ValueError(f"the logits of example {wrong[0]} are not finite; expected those of a trained model")
    return logits if labels is None else (logits, _checked_labels(labels, logits.shape))


def _checked_labels(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != shape[:1] or labels.dtype.kind not in "iub" or not len(labels):
        raise ValueError(
            f"labels are {labels.dtype} {list(labels.shape)}: expected integers {[shape[0]]} as the logits, one or more"
        )
    if labels.min() < 0 or labels.max() >= shape[1]:
        raise ValueError(f"labels from {labels.min()} to {labels.max()}: expected 0 to {shape[1] - 1}")
    return labels.astype(np.int64)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
