"""Part of `benchmarks.multi_step`: label shift, calibration, and selective prediction."""

import functools
from typing import Any

import numpy as np

from zoo import workdir as folders
from zoo.adaptation.refiner import refine
from zoo.adaptation.stages.output import Prior, Temperature
from zoo.metrics.logits import class_probabilities, two_class_logits
from zoo.predict.calibration import selective_prediction
from zoo.predict.evaluation import held_out as sources
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.evaluation.run_data import as_examples, run_texts
from zoo.predict.predictors import loading
from zoo.predict.predictors.predictor import Classifier

# Parameters of the Dirichlet distribution of a stream's class proportions; None: no shift.
ALPHAS = (0.1, 1.0, 10.0, None)
_DRAWS, _BATCH = 10, 100


def label_shift(workdir: str, longest: int) -> dict[str, Any]:
    """Streams with label shift, with and without the prior's correction.

    Args:
        workdir: folder of a classifier's run.
        longest: most examples of a stream.

    Returns:
        By alpha, for each draw, the `plain` and `refined` predictions: lists of 1 (right) and 0.
    """
    predictor, heldout, y, logits = _answered(workdir)
    replay = _Replay(predictor, logits)
    result: dict[str, Any] = {}
    for alpha in ALPHAS:
        draws = []
        for seed in range(_DRAWS):
            index = _drawn(y, alpha, longest, seed)
            refined = refine(replay, _batches(index), [Temperature(), Prior()], heldout)
            right = refined.probabilities.argmax(axis=1) == y[index]
            plain = logits[index].argmax(axis=1) == y[index]
            draws.append({"plain": plain.astype(int).tolist(), "refined": right.astype(int).tolist()})
        result[str(alpha)] = draws
        means = [np.mean([np.mean(draw[kind]) for draw in draws]) for kind in ("plain", "refined")]
        print(workdir, alpha, *(f"{mean:.4f}" for mean in means), flush=True)
    return result


def calibration(workdir: str) -> dict[str, float]:
    """Expected calibration error (15 bins) and log loss on the test split, as trained and with a temperature."""
    predictor, heldout, y, logits = _answered(workdir)
    stage = Temperature()
    stage.begin(predictor, heldout)
    result = {}
    for name, scaled in (("plain", logits), ("temperature", stage.logits(logits, np.asarray))):
        probabilities = class_probabilities(scaled)
        result[f"{name} ece"] = expected_calibration_error(probabilities, y)
        result[f"{name} log loss"] = float(-np.log(probabilities[np.arange(len(y)), y]).mean())
    # Actual error at a promised risk.
    confidence = class_probabilities(heldout.logits)
    rule = selective_prediction.choose(
        confidence.max(axis=1), confidence.argmax(axis=1) == heldout.labels, risk=max(0.005, _risk(heldout) / 2)
    )
    answered = rule.answers(class_probabilities(logits).max(axis=1))
    wrong = logits.argmax(axis=1) != y
    result |= {
        "promised risk": rule.risk,
        "coverage": float(answered.mean()),
        "risk": float(wrong[answered].mean()) if answered.any() else 0.0,
        "error": float(wrong.mean()),
    }
    print(workdir, result, flush=True)
    return result


class _Replay:
    """A predictor of examples by their index with precomputed logits, enough for stages on the output."""

    def __init__(self, predictor: Classifier, logits: np.ndarray):
        self.model, self.classes, self._logits = predictor.model, predictor.classes, logits

    def logits(self, index: np.ndarray) -> np.ndarray:
        return self._logits[np.asarray(index)]


@functools.cache
def _answered(workdir: str) -> tuple[Classifier, HeldOut, np.ndarray, np.ndarray]:
    """A run's predictor and held-out data, and the test split's labels and logits."""
    predictor = loading.load(workdir)
    heldout = sources.load(workdir, predictor)
    x, y = _test(workdir, predictor)
    return predictor, heldout, y, two_class_logits(predictor.logits(x))


def _test(workdir: str, predictor: Classifier) -> tuple[Any, np.ndarray]:
    run = folders.read_run(workdir)
    if predictor.reads_text:
        test = run_texts(run).test
        return as_examples(predictor, test), test.labels
    from zoo.data.datasets import images

    test = images.load(run.config["dataset"]).test
    return test["x"], test["y"]


def _drawn(y: np.ndarray, alpha: float | None, longest: int, seed: int) -> np.ndarray:
    """Indices of a stream, each at most once."""
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(y))
    if alpha is None:
        return order[:longest]
    classes = int(y.max()) + 1
    proportions = draw.dirichlet(np.full(classes, alpha))
    counts = np.bincount(y, minlength=classes)
    # The longest stream with these proportions.
    total = min(longest, int(np.min(counts / np.maximum(proportions, 1e-9))), len(y))
    total = max(total, min(longest, 200))
    parts = [order[y[order] == label][: round(total * proportions[label])] for label in range(classes)]
    return draw.permutation(np.concatenate(parts))


def expected_calibration_error(probabilities: np.ndarray, y: np.ndarray) -> float:
    """Expected calibration error in fifteen bins of equal width (Guo et al., 2017)."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == y
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [
        abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins.tolist())
    ]
    return float(sum(gaps))


def _risk(heldout: HeldOut) -> float:
    return float((heldout.logits.argmax(axis=1) != heldout.labels).mean())


def _batches(index: np.ndarray) -> list[np.ndarray]:
    return [index[first : first + _BATCH] for first in range(0, len(index), _BATCH)]
