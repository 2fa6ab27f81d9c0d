"""What the guard of the pose search lets pass on small networks, whose scores without labels tell little.

    python -m benchmarks.multi_step.pose_study runs/multi_step       # what is missing, then section-poses.md

Trains the runs that the folder lacks, ten to twenty seconds each: perceptrons of MNIST and Fashion-MNIST with two
layers of 64 and label smoothing, and of 4,000 digits with two layers of 128, as they are and with dropout and label
smoothing. Each answers streams of 400 damaged test images by `statistics` and `input`, in random order and with class
proportions that drift. The limits of the guard were chosen on training images and other seeds. Figures are kept as JSON
in the folder and not measured again. A minute or two of one core a run.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.multi_step.images import mixed_order
from zoo.adaptation.refiner import Refiner
from zoo.adaptation.stage import StreamContext
from zoo.adaptation.stages.pose import Pose
from zoo.adaptation.stages.statistics import BatchStatistics
from zoo.data.datasets import images
from zoo.data.datasets.image_corruptions import NAMES, corrupted
from zoo.predict.evaluation import held_out
from zoo.predict.predictors import loading

_SEEDS = (0, 1, 2)
_SMALL = "--norm=batch --hidden=64,64 --label_smoothing=0.1 --epochs=6"
_DIGITS = "--dataset=mnist_5k --norm=batch --hidden=128,128 --steps=600 --batch_size=128 --learning_rate=0.01"
# By the name of the run: the data set that it is tested on, and how it is trained. The 5,000 digits are some of MNIST's
# training images.
_RUNS = {
    "small-mnist": ("mnist", f"--dataset=mnist {_SMALL}"),
    "small-fashion": ("fashion_mnist", f"--dataset=fashion_mnist {_SMALL}"),
    "digits": ("mnist", _DIGITS),
    "digits-smooth": ("mnist", f"{_DIGITS} --label_smoothing=0.1 --dropout=0.3"),
}
_POSES = ("rotation", "translation", "scale")
_ORDERS = ("random", "label shift with drift")
_EXAMPLES, _BATCH = 400, 200
# The guard before this one: the ratio of the scores alone.
_RATIO = 0.3
_HEAD = """## Poses on small networks

Searches for the pose of 200 or 400 damaged test images, three seeds of each network, written by
`python -m benchmarks.multi_step.pose_study`, which explains them. Each search would change the error by some points if
its poses were always kept; the table has the means over the searches. *Kept*: what the guard of `input` lets pass, the
searches among these that raise the error, and the worst. *By the score*: the same, if a ratio of the scores below 0.3
were enough, as for other stages. *Best*: if the labels chose.

| network | always | kept | raise it | worst | by the score | raise it | worst | best |
|---|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    """Measures the missing figures and writes the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder of the runs and the figures")
    work = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    for seed in _SEEDS:
        for name in _RUNS:
            path = work / f"poses-{name}-{seed}.json"
            if not path.exists():
                path.write_text(json.dumps(_measured(_trained(work, name, seed), _RUNS[name][0])))
                print(_row(path.stem, json.loads(path.read_text())), flush=True)
    text = section(work)
    (work / "section-poses.md").write_text(text)
    print(text)


def section(work: Path) -> str:
    """The section with the table of all figures."""
    found = {name: sorted(work.glob(f"poses-{name}-?.json")) for name in _RUNS}
    rows = [
        _row(f"{name}, {len(paths)}", [search for path in paths for search in json.loads(path.read_text())])
        for name, paths in found.items()
        if paths
    ]
    return _HEAD + "\n".join(rows) + "\n"


class _Watched(Pose):
    """Keeps what each search would change."""

    def __init__(self) -> None:
        self.searches: list[dict[str, Any]] = []
        self.labels = np.zeros(0, int)

    def propose(self, context: StreamContext) -> str:
        """See Pose."""
        reason = super().propose(context)
        if not reason or reason.startswith("no pose"):
            shown = context.forward(self.aligned(context.recent))
            before, after = (self._guards.score(logits) for logits in (context.logits, shown))
            labels = self.labels[: len(context.recent)]
            wrong = [float((logits.argmax(axis=1) != labels).mean()) for logits in (context.logits, shown)]
            ratio = after.ratio_to(before)
            is_kept = not reason and ratio < self.max_score_ratio
            self.searches.append({"gain": wrong[0] - wrong[1], "ratio": ratio, "kept": is_kept})
        return reason


def _trained(work: Path, name: str, seed: int) -> Path:
    folder = work / f"{name}-{seed}"
    if not (folder / "result.json").exists():
        flags = [*_RUNS[name][1].split(), f"--seed={seed}", f"--workdir={folder}"]
        command = [sys.executable, "-m", "experiments.mlp_classifier", *flags]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def _measured(run: Path, dataset: str) -> list[dict[str, Any]]:
    """The searches of all streams."""
    predictor = loading.load(run)
    watched = _Watched()
    refiner = Refiner(predictor, [BatchStatistics(optional=True), watched], held_out.load(run, predictor))
    test = images.load(dataset).test
    for name, x, y in _streams(test["x"], test["y"]):
        known = len(watched.searches)
        refiner.reset()
        watched.labels = y
        for first in range(0, len(x), _BATCH):
            refiner.answer(x[first : first + _BATCH])
        for search in watched.searches[known:]:
            search["stream"] = name
    return watched.searches


def _streams(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    for order in _ORDERS:
        chosen = (
            np.random.default_rng(3).permutation(len(y))[:_EXAMPLES]
            if order == "random"
            else mixed_order(order, y, _EXAMPLES)
        )
        for name in NAMES:
            for severity in (1, 3, 5) if name in _POSES else (3, 5):
                yield f"{order}, {name} {severity}", corrupted(x[chosen], name, severity), y[chosen]


def _row(title: str, searches: list[dict[str, Any]]) -> str:
    gains = 100.0 * np.array([search["gain"] for search in searches])
    kept = np.array([search["kept"] for search in searches])
    by_score = np.array([search["ratio"] < _RATIO for search in searches])
    cells = [f"{gains.mean():+.1f}"]
    for chosen in (kept, by_score):
        losses = int((gains[chosen] < 0).sum())
        cells += [
            f"{np.where(chosen, gains, 0).mean():+.1f}",
            f"{losses} of {chosen.sum()}",
            f"{gains[chosen].min():+.1f}",
        ]
    return f"| {title} | {' | '.join(cells)} | {np.maximum(gains, 0).mean():+.1f} |"


if __name__ == "__main__":
    main()
