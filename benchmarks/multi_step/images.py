"""Part of `benchmarks.multi_step`: corrupted images, in random, sorted and changing streams."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.multi_step.labels import expected_calibration_error
from zoo.adaptation.budget import Budget
from zoo.adaptation.plans import stages
from zoo.adaptation.refiner import Refined, Refiner, refine
from zoo.adaptation.stages.normalization import NormalizationFit
from zoo.data.datasets import images
from zoo.data.datasets.image_corruptions import NAMES, corrupted
from zoo.metrics.logits import class_probabilities
from zoo.predict.evaluation import held_out as sources
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors import loading
from zoo.predict.predictors.cloning import copied, digest

# Severities that are also tested on a stream sorted by class.
_SORTED = (3, 5)
_BATCH = 200
# Orders of mixed streams, each with these images, at severity 3.
ORDERS = ("bursts of 5", "bursts of 20", "bursts of 100", "label shift with drift")
MIXED = ("clean", "noise", "fog", "rotation")
# Conditions of the changing stream in turn, at severity 4, and images of each.
CHANGING = ("clean", "brightness", "clean", "rotation", "noise")
_EACH = 600


def corruptions(workdir: str, dataset: str, examples: int) -> dict[str, Any]:
    """Errors of one run with and without refinement, on clean and corrupted test images.

    Args:
        workdir: folder of a run of an MLP with batch normalisation.
        dataset: data set that it was trained on.
        examples: number of test images, the same in each cell.

    Returns:
        `cells`: names like "iid noise 3"; for each cell `labels`, the `plain`, `unguarded` (always each batch's own
        statistics) and `refined` predictions, `calibration` (see `_calibration`) of the plain and refined ones, and
        `kept`: by stage the fraction of batches whose change was kept.
    """
    predictor = loading.load(workdir)
    heldout = sources.load(workdir, predictor)
    before = digest(predictor.model)
    refiner = Refiner(predictor, stages(["auto"], predictor, workdir), heldout)
    copy = copied(predictor)
    norms = NormalizationFit(copy, heldout.examples, heldout.labels)
    test = images.load(dataset).test
    chosen = np.random.default_rng(0).permutation(len(test["y"]))[:examples]
    ordered = chosen[np.argsort(test["y"][chosen], kind="stable")]
    result: dict[str, Any] = {"cells": [], "labels": [], "plain": [], "unguarded": [], "refined": [], "kept": []}
    result["calibration"] = []
    for order, name, severity in _cells():
        index = chosen if order == "iid" else ordered
        x = test["x"][index] if name == "clean" else corrupted(test["x"][index], name, severity)
        refined = _afresh(refiner, x)
        kept = {stage: _share(refined.trace, stage) for stage in ("statistics", "coral", "pose")}
        plain = predictor.logits(x)
        answers = {
            "plain": plain.argmax(axis=1),
            "unguarded": _unguarded((copy, norms), heldout, x),
            "refined": refined.probabilities.argmax(axis=1),
        }
        result["cells"].append(f"{order} {name} {severity}")
        result["labels"].append(test["y"][index].tolist())
        result["kept"].append(kept)
        labels = test["y"][index]
        result["calibration"].append(
            [_calibration(class_probabilities(plain), labels), _calibration(refined.probabilities, labels)]
        )
        for kind, answer in answers.items():
            result[kind].append(answer.tolist())
        print(
            result["cells"][-1], *(f"{np.mean(a != test['y'][index]):.3f}" for a in answers.values()), kept, flush=True
        )
    assert digest(predictor.model) == before, "the source weights have changed"
    return result


def orders(workdir: str, dataset: str, examples: int) -> dict[str, Any]:
    """Errors on streams that are neither random nor sorted: bursts of one class, class proportions that drift."""
    predictor = loading.load(workdir)
    heldout = sources.load(workdir, predictor)
    refiner = Refiner(predictor, stages(["auto"], predictor, workdir), heldout)
    test = images.load(dataset).test
    result: dict[str, Any] = {}
    for order in ORDERS:
        index = mixed_order(order, test["y"], examples)
        for name in MIXED:
            x = test["x"][index] if name == "clean" else corrupted(test["x"][index], name, 3)
            refined = _afresh(refiner, x)
            answers = predictor.logits(x).argmax(axis=1), refined.probabilities.argmax(axis=1)
            result[f"{order}, {name}"] = [(answer != test["y"][index]).tolist() for answer in answers]
            print(order, name, *(f"{np.mean(part):.3f}" for part in result[f"{order}, {name}"]), flush=True)
    return result


def _afresh(refiner: Refiner, x: np.ndarray) -> Refined:
    """The answers of a refiner that has forgotten earlier streams: a new one would compile all programs again."""
    refiner.reset()
    known = len(refiner.trace)
    answers = [refiner.answer(batch) for batch in _batches(x)]
    return Refined(np.concatenate(answers), refiner.trace[known:])


def mixed_order(name: str, labels: np.ndarray, examples: int) -> np.ndarray:
    """Indices of a stream, each at most once."""
    draw = np.random.default_rng(3)
    queues = [list(draw.permutation(np.flatnonzero(labels == label))) for label in range(int(labels.max()) + 1)]
    if name.startswith("bursts"):
        length = int(name.split()[-1])
        classes = np.repeat(draw.integers(0, len(queues), -(-examples // length)), length)[:examples]
    else:
        first, last = draw.dirichlet(np.full(len(queues), 0.3), 2)
        steps = np.linspace(0, 1, examples)[:, None]
        classes = [draw.choice(len(queues), p=shares) for shares in (1 - steps) * first + steps * last]
    return np.array([queues[label].pop() for label in classes])


def _calibration(probabilities: np.ndarray, labels: np.ndarray) -> list[float]:
    """Expected calibration error (15 bins) and log loss in nats."""
    right = np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)
    return [expected_calibration_error(probabilities, labels), float(-np.log(right).mean())]


def streams(workdir: str, dataset: str) -> dict[str, Any]:
    """Streams that unguarded adaptation collapses on: one class only, a thousand batches, one image at a time."""
    predictor = loading.load(workdir)
    heldout = sources.load(workdir, predictor)
    test = images.load(dataset).test
    draw = np.random.default_rng(1)
    one_class = np.flatnonzero(test["y"] == 3)
    long = draw.integers(0, len(test["y"]), 1000 * 20)
    single = draw.integers(0, len(test["y"]), 300)
    result = {}
    for name, index, size in (("one class", one_class, 100), ("1,000 batches of 20", long, 20), ("single", single, 1)):
        x, y = corrupted(test["x"][index], "noise", 3), test["y"][index]
        # On a long stream changes are tried in the first batches only, and then stay.
        budget = Budget(steps=200) if len(x) > 5000 else Budget()
        refined = refine(predictor, _batches(x, size), stages(["statistics"], predictor, workdir), heldout, budget)
        wrong = refined.probabilities.argmax(axis=1) != y
        parts = [float(part.mean()) for part in np.array_split(wrong, 4)]
        result[name] = {
            "examples": len(y),
            "plain": float((predictor.logits(x).argmax(axis=1) != y).mean()),
            "refined": float(wrong.mean()),
            "quarters": parts,
        }
        print(name, result[name], flush=True)
    return result


def changes(workdir: str, dataset: str) -> dict[str, Any]:
    """A stream with abrupt distribution shifts: errors under each condition in turn, and the trace."""
    predictor = loading.load(workdir)
    heldout = sources.load(workdir, predictor)
    test = images.load(dataset).test
    chosen = np.random.default_rng(2).permutation(len(test["y"]))[: len(CHANGING) * _EACH]
    parts = [chosen[first : first + _EACH] for first in range(0, len(chosen), _EACH)]
    kinds = [
        test["x"][part] if name == "clean" else corrupted(test["x"][part], name, 4)
        for part, name in zip(parts, CHANGING)
    ]
    x, y = np.concatenate(kinds), test["y"][chosen]
    refined = refine(predictor, _batches(x, 100), stages(["auto"], predictor, workdir), heldout)
    answers = {"plain": predictor.logits(x).argmax(axis=1), "refined": refined.probabilities.argmax(axis=1)}
    wrong = {kind: (answer != y).reshape(-1, _EACH).mean(1).tolist() for kind, answer in answers.items()}
    print(wrong, flush=True)
    return wrong | {"trace": [line.as_json() for line in refined.trace]}


def _cells() -> Iterator[tuple[str, str, int]]:
    for order in ("iid", "sorted"):
        yield order, "clean", 0
        severities = range(1, 6) if order == "iid" else _SORTED
        yield from ((order, name, severity) for severity in severities for name in NAMES)


def _unguarded(fitted: tuple[Any, NormalizationFit], heldout: HeldOut, x: np.ndarray) -> np.ndarray:
    """BN adaptation with each batch's own statistics: Schneider et al. (2020), without a prior."""
    copy, norms = fitted
    shares = np.bincount(heldout.labels, minlength=norms.classes) / len(heldout.labels)
    answers = []
    for batch in _batches(x):
        norms.set(batch, shares)
        answers.append(copy.logits(batch).argmax(axis=1))
    return np.concatenate(answers)


def _batches(x: np.ndarray, size: int = _BATCH) -> list[np.ndarray]:
    return [x[first : first + size] for first in range(0, len(x), size)]


def _share(trace: list, stage: str) -> float:
    lines = [line.accepted for line in trace if line.stage == stage]
    return float(np.mean(lines)) if lines else 0.0
