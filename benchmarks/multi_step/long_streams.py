"""Learners of `--refine=parameters` on long streams: a step a batch shows little in the first two batches.

    python -m benchmarks.multi_step.long_streams runs/multi_step       # what is missing, then section-long-streams.md

The folder, or that of --runs, has the runs trained by `benchmarks.multi_step`. Four thousand damaged test images in
random order, in batches of 200, so that each learner takes twenty steps after `statistics`, as published methods do on
streams of this length; with the guards, and with each step kept. Figures are kept as JSON in the folder and not
measured again. Five minutes of one core a run.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zoo.adaptation import plans
from zoo.adaptation.refiner import Refiner
from zoo.adaptation.stages.parameters import LEARNERS
from zoo.data.datasets import images
from zoo.data.datasets.image_corruptions import corrupted
from zoo.predict.evaluation import held_out as sources
from zoo.predict.predictors import loading

_SEEDS, _DATASETS = (0, 1, 2), {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
# Statistics take most of the harm of these away; what is left is for the learners.
_DAMAGE, _SEVERITY = ("noise", "fog"), 3
_EXAMPLES, _BATCH = 4000, 200
_BOOTSTRAP = 2000
_HEAD = f"""## Learners on long streams

{_EXAMPLES:,} damaged test images ({", ".join(_DAMAGE)}, severity {_SEVERITY}) in random order, batches of {_BATCH}:
each learner takes {_EXAMPLES // _BATCH} steps after `statistics`. Errors in percent, mean of the seeds, with the guards
and with each step kept (*always*), and the gains in points on `statistics` alone (paired bootstrap, 95 %). *Last*: of
the last 1,000 images, each step kept. Written by `python -m benchmarks.multi_step.long_streams`.
"""


def main() -> None:
    """Measures the missing figures and writes the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder of the figures")
    parser.add_argument("--runs", type=Path, help="folder of the runs, DATASET-SEED (default: the figures' own)")
    parser.add_argument("--datasets", default=",".join(_DATASETS), help="with commas between; a process for each")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    for seed in _SEEDS:
        for dataset in arguments.datasets.split(","):
            path = arguments.work / f"long-{dataset}-{seed}.json"
            if not path.exists():
                path.write_text(json.dumps(_measured((arguments.runs or arguments.work) / path.stem[5:], dataset)))
    text = section(arguments.work)
    (arguments.work / "section-long-streams.md").write_text(text)
    print(text)


def section(work: Path) -> str:
    """The section with the table of all figures."""
    lines = [
        "| data, seeds | learner | guarded | gain | always | gain | last |",
        "|---|---|---|---|---|---|---|",
    ]
    for dataset, title in _DATASETS.items():
        runs = [json.loads(path.read_text()) for path in sorted(work.glob(f"long-{dataset}-*.json"))]
        lines += _rows(f"{title}, {len(runs)}", runs) if runs else []
    return f"{_HEAD}\n" + "\n".join(lines) + "\n"


def _measured(run: Path, dataset: str) -> dict[str, Any]:
    """Wrong answers `[damages, examples]` by learner, guarded and with each step kept."""
    predictor = loading.load(run)
    heldout = sources.load(run, predictor)
    test = images.load(dataset).test
    # Another draw than in the other parts.
    chosen = np.random.default_rng(9).permutation(len(test["y"]))[:_EXAMPLES]
    y = test["y"][chosen]
    streams = [corrupted(test["x"][chosen], name, _SEVERITY) for name in _DAMAGE]
    result = {"plain": [(predictor.logits(x).argmax(axis=1) != y).astype(int).tolist() for x in streams]}
    for learner in (None, *LEARNERS):
        names = ["statistics"] if learner is None else ["statistics", "parameters"]
        stages = plans.stages(names, predictor, run, learner or "tent")
        refiner = Refiner(predictor, stages, heldout)
        result[learner or "statistics"] = [_wrong(refiner, x, y) for x in streams]
        if learner is not None:
            _keep_each_step(stages[-1])
            result[f"{learner}, always"] = [_wrong(refiner, x, y) for x in streams]
        means = [round(float(np.mean(part)), 4) for name, part in result.items() if name.startswith(learner or "st")]
        print(run.name, learner, *means, flush=True)
    return result


def _keep_each_step(stage: Any) -> None:
    propose = stage.propose
    stage.max_score_ratio = None
    stage.propose = lambda context: propose(context) and ""


def _wrong(refiner: Refiner, x: np.ndarray, y: np.ndarray) -> list[int]:
    refiner.reset()
    parts = [refiner.answer(x[first : first + _BATCH]) for first in range(0, len(x), _BATCH)]
    return (np.concatenate(parts).argmax(axis=1) != y).astype(int).tolist()


def _rows(title: str, runs: list[dict[str, Any]]) -> Iterator[str]:
    """Rows of plain prediction, of statistics alone, and of each learner."""
    wrong = {name: 100.0 * np.array([run[name] for run in runs]) for name in runs[0]}  # [seeds, damages, examples]
    base = wrong["statistics"]
    yield f"| {title} | none: plain | {wrong['plain'].mean():.1f} | | | | |"
    yield f"| | none: statistics | {base.mean():.1f} | | | | {base[..., -1000:].mean():.1f} |"
    for learner in LEARNERS:
        guarded, always = wrong[learner], wrong[f"{learner}, always"]
        cells = f"{guarded.mean():.1f} | {_gain(base, guarded)} | {always.mean():.1f} | {_gain(base, always)}"
        yield f"| | {learner} | {cells} | {always[..., -1000:].mean():.1f} |"


def _gain(before: np.ndarray, after: np.ndarray) -> str:
    gains = (before - after).mean(axis=(0, 1))  # [examples]
    draw = np.random.default_rng(0).integers(0, len(gains), (_BOOTSTRAP, len(gains)))
    low, high = np.quantile(gains[draw].mean(axis=1), [0.025, 0.975]).tolist()
    return f"{gains.mean():+.2f} ({low:+.2f} to {high:+.2f})"


if __name__ == "__main__":
    main()
