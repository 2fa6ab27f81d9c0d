"""Part of `benchmarks.multi_step`: damaged images, in the streams that they may come in."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from zoo.adaptation.plans import stages
from zoo.adaptation.refiner import Budget, refine
from zoo.adaptation.stages.normalization import NormalizationFit
from zoo.data.datasets import images
from zoo.data.datasets.image_corruptions import NAMES, corrupted
from zoo.predict.evaluation import held_out as sources
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors import loading
from zoo.predict.predictors.cloning import copied, digest

# Cells of the corruptions that are also sent in an order sorted by class.
_SORTED = (3, 5)
_BATCH = 200
# What a stream brings in turn, six hundred images of each, damage of severity 4.
CHANGING = ("clean", "brightness", "clean", "rotation", "noise")
_EACH = 600


def corruptions(workdir: str, dataset: str, examples: int) -> dict[str, Any]:
    """Errors of one run with and without refinement, on clean and damaged test images.

    Args:
        workdir: of an MLP with batch normalisation.
        dataset: that it was trained on.
        examples: test images of each cell, the same ones.

    Returns:
        `cells`: names like "iid noise 3"; `labels`; of each cell the `plain`, `unguarded` (batch statistics of each
        batch, whatever they are) and `refined` answers; `kept`: shares of the batches whose change each stage kept.
    """
    found = loading.load(workdir)
    known = sources.load(workdir, found)
    before = digest(found.model)
    test = images.load(dataset).test
    chosen = np.random.default_rng(0).permutation(len(test["y"]))[:examples]
    ordered = chosen[np.argsort(test["y"][chosen], kind="stable")]
    result: dict[str, Any] = {"cells": [], "labels": [], "plain": [], "unguarded": [], "refined": [], "kept": []}
    for order, name, severity in _cells():
        index = chosen if order == "iid" else ordered
        x = test["x"][index] if name == "clean" else corrupted(test["x"][index], name, severity)
        refined = refine(found, _batches(x), stages(["auto"], found, workdir), known)
        kept = {stage: _share(refined.trace, stage) for stage in ("statistics", "pose")}
        answers = {
            "plain": found.logits(x).argmax(axis=1),
            "unguarded": _unguarded(found, known, x),
            "refined": refined.probabilities.argmax(axis=1),
        }
        result["cells"].append(f"{order} {name} {severity}")
        result["labels"].append(test["y"][index].tolist())
        result["kept"].append(kept)
        for kind, answer in answers.items():
            result[kind].append(answer.tolist())
        print(
            result["cells"][-1], *(f"{np.mean(a != test['y'][index]):.3f}" for a in answers.values()), kept, flush=True
        )
    assert digest(found.model) == before, "the source weights have changed"
    return result


def streams(workdir: str, dataset: str) -> dict[str, Any]:
    """Streams that unguarded adaptation collapses on: one class only, a thousand batches, one image at a time."""
    found = loading.load(workdir)
    known = sources.load(workdir, found)
    test = images.load(dataset).test
    draw = np.random.default_rng(1)
    one_class = np.flatnonzero(test["y"] == 3)
    long = draw.integers(0, len(test["y"]), 1000 * 20)
    single = draw.integers(0, len(test["y"]), 300)
    result = {}
    for name, index, size in (("one class", one_class, 100), ("1,000 batches of 20", long, 20), ("single", single, 1)):
        x, y = corrupted(test["x"][index], "noise", 3), test["y"][index]
        # On a long stream a change is tried in the first batches, and what was found is used on.
        budget = Budget(steps=200) if len(x) > 5000 else Budget()
        refined = refine(found, _batches(x, size), stages(["statistics"], found, workdir), known, budget)
        wrong = refined.probabilities.argmax(axis=1) != y
        parts = [float(part.mean()) for part in np.array_split(wrong, 4)]
        result[name] = {
            "examples": len(y),
            "plain": float((found.logits(x).argmax(axis=1) != y).mean()),
            "refined": float(wrong.mean()),
            "quarters": parts,
        }
        print(name, result[name], flush=True)
    return result


def changes(workdir: str, dataset: str) -> dict[str, Any]:
    """A stream whose kind changes at once, and again: errors of each kind in turn, and the trace."""
    found = loading.load(workdir)
    known = sources.load(workdir, found)
    test = images.load(dataset).test
    chosen = np.random.default_rng(2).permutation(len(test["y"]))[: len(CHANGING) * _EACH]
    parts = [chosen[first : first + _EACH] for first in range(0, len(chosen), _EACH)]
    kinds = [
        test["x"][part] if name == "clean" else corrupted(test["x"][part], name, 4)
        for part, name in zip(parts, CHANGING)
    ]
    x, y = np.concatenate(kinds), test["y"][chosen]
    refined = refine(found, _batches(x, 100), stages(["auto"], found, workdir), known)
    answers = {"plain": found.logits(x).argmax(axis=1), "refined": refined.probabilities.argmax(axis=1)}
    wrong = {kind: (answer != y).reshape(-1, _EACH).mean(1).tolist() for kind, answer in answers.items()}
    print(wrong, flush=True)
    return wrong | {"trace": [line.as_json() for line in refined.trace]}


def _cells() -> Iterator[tuple[str, str, int]]:
    for order in ("iid", "sorted"):
        yield order, "clean", 0
        severities = range(1, 6) if order == "iid" else _SORTED
        yield from ((order, name, severity) for severity in severities for name in NAMES)


def _unguarded(found: Any, known: HeldOut, x: np.ndarray) -> np.ndarray:
    """Each batch's own statistics for each batch: Schneider et al. (2020), without a prior."""
    copy = copied(found)
    norms = NormalizationFit(copy, known.examples, known.labels)
    shares = np.bincount(known.labels, minlength=norms.classes) / len(known.labels)
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
