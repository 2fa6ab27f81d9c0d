"""Multi-step prediction on public benchmarks of corrupted images: MNIST-C, CIFAR-10-C, CIFAR-100-C.

    python -m benchmarks.multi_step.public runs/public runs/multi_step/mnist-* --dataset=mnist_corrupted
    python -m benchmarks.multi_step.public runs/public runs/cifar-* --dataset=data/CIFAR-10-C --examples=0

Each RUN is a classifier of images of that size, trained on the benchmark's own training data, its classes in the
benchmark's order. Plain prediction and `--refine=auto`, for each corruption and severity, in random order and sorted by
class, in batches of 200. The figures of a run are kept in WORK as JSON and not measured again; the table of all runs is
printed and written to `section-public-NAME.md` in WORK. About five seconds for a thousand images of a perceptron.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from zoo.adaptation import plans
from zoo.adaptation.refiner import Refiner
from zoo.data.datasets import corruption_benchmarks
from zoo.data.datasets.corruption_benchmarks import CorruptedImages
from zoo.errors import BadInput
from zoo.predict.evaluation import held_out
from zoo.predict.predictors import loading
from zoo.predict.predictors.cloning import digest
from zoo.predict.predictors.predictor import Classifier

_BATCH, _BOOTSTRAP = 200, 2000
_ORDERS = {"random": "random order", "sorted": "sorted by class"}


def main() -> None:
    """Measures the missing runs and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder of the figures")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="trained classifiers of images")
    parser.add_argument(
        "--dataset", required=True, help="mnist_corrupted (TFDS), or the unpacked folder of a benchmark"
    )
    parser.add_argument("--examples", type=int, default=2000, help="images of a corruption and severity; 0: all")
    arguments = parser.parse_args()
    name = Path(arguments.dataset).name
    arguments.work.mkdir(parents=True, exist_ok=True)
    figures = []
    for run in arguments.runs:
        path = arguments.work / f"public-{name}-{arguments.examples}-{run.name}.json"
        if not path.exists():
            path.write_text(json.dumps(measured(run, arguments.dataset, arguments.examples)))
        figures.append(json.loads(path.read_text()))
    text = section(name, figures)
    (arguments.work / f"section-public-{name}.md").write_text(text)
    print(text)


def measured(run: Path, dataset: str, examples: int) -> list[dict[str, Any]]:
    """The mistakes of one run.

    Args:
        run: folder of the run.
        dataset: as in `corruption_benchmarks.load`.
        examples: number of images of a corruption and severity, the same in each, drawn at random; 0: all.

    Returns:
        For each corruption and severity its `corruption`, `severity`, and for each order `plain` and `refined`: 0 or 1
        for each image, in the order of the file.

    Raises:
        BadInput: the data cannot be read, or the run is no classifier of such images.
    """
    predictor = loading.load(run)
    if predictor.task != "classification" or not predictor.takes_images:
        raise BadInput(f"{run} is no classifier of uint8 images: expected a run of experiments.cnn_classifier, say")
    refiner = Refiner(predictor, plans.stages(["auto"], predictor, run), held_out.load(run, predictor))
    before, cells = digest(predictor.model), []
    for given in corruption_benchmarks.load(dataset):
        cells.append(_cell(predictor, refiner, given, dataset, examples))
        errors = [
            f"{order} {np.mean(cells[-1][order]['plain']):.3f} {np.mean(cells[-1][order]['refined']):.3f}"
            for order in _ORDERS
        ]
        print(run.name, given.corruption, given.severity, *errors, flush=True)
    assert digest(predictor.model) == before, "the source weights have changed"
    return cells


def section(name: str, runs: list[list[dict[str, Any]]]) -> str:
    """The Markdown table of all runs.

    Args:
        name: name of the benchmark.
        runs: figures of `measured`.
    """
    count = len(runs[0][0]["random"]["plain"])
    head = (
        f"## {name}\n\nErrors in percent, mean of {len(runs)} runs, {count:,} images of each corruption and severity, "
        "plain and with `--refine=auto` in batches of 200, in random order and sorted by class. *Gain*: points by "
        "which the error falls, with its paired bootstrap interval (95 %) over the images, the same resamples for all "
        "runs.\n"
    )
    titles = ("corruption", "severity", "plain", "refined", "gain", "sorted: plain", "refined", "gain")
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for cells in zip(*runs, strict=True):
        severity = str(cells[0]["severity"] or "")
        lines.append(_row([cells[0]["corruption"], severity], [list(cells)]))
    lines.append(_row(["**mean**", ""], [list(cells) for cells in zip(*runs, strict=True)]))
    worse = [
        f"{cells[0]['corruption']} {cells[0]['severity'] or ''}".strip() + f", {title}"
        for cells in zip(*runs, strict=True)
        for order, title in _ORDERS.items()
        if _gain([list(cells)], order)[2] < 0
    ]
    tail = f"\nSignificantly worse when refined: {'; '.join(worse) if worse else 'none'}.\n"
    return head + "\n" + "\n".join(lines) + "\n" + tail


def _cell(
    predictor: Classifier, refiner: Refiner, given: CorruptedImages, dataset: str, examples: int
) -> dict[str, Any]:
    if given.labels.max() >= len(predictor.classes):
        raise BadInput(f"--dataset={dataset} has class {given.labels.max()}: the model has {len(predictor.classes)}")
    images = corruption_benchmarks.for_shape(given.images, predictor.shape, dataset)
    # The same images of each corruption and severity.
    chosen = np.random.default_rng(0).permutation(len(images))[: examples or None]
    result: dict[str, Any] = {"corruption": given.corruption, "severity": given.severity}
    for order in _ORDERS:
        index = chosen if order == "random" else chosen[np.argsort(given.labels[chosen], kind="stable")]
        refiner.reset()
        starts = range(0, len(index), _BATCH)
        # Part by part, so that a memory-mapped file is not read as a whole.
        parts = [np.asarray(images[index[first : first + _BATCH]]) for first in starts]
        answers = {
            "plain": np.concatenate([predictor.logits(part) for part in parts]),
            "refined": np.concatenate([refiner.answer(part) for part in parts]),
        }
        back = np.argsort(index, kind="stable")
        wrong = {kind: (answer.argmax(axis=1) != given.labels[index])[back] for kind, answer in answers.items()}
        result[order] = {kind: each.astype(int).tolist() for kind, each in wrong.items()}
    return result


def _row(names: list[str], groups: list[list[dict[str, Any]]]) -> str:
    columns = list(names)
    for order in _ORDERS:
        errors = [
            100 * np.mean([np.mean(cell[order][kind]) for cells in groups for cell in cells])
            for kind in ("plain", "refined")
        ]
        low, gain, high = _gain(groups, order)
        columns += [*(f"{error:.1f}" for error in errors), f"{gain:+.2f} ({low:+.2f} to {high:+.2f})"]
    return f"| {' | '.join(columns)} |"


def _gain(groups: list[list[dict[str, Any]]], order: str) -> tuple[float, float, float]:
    """Gain in points over corruptions and runs with its interval: low, mean, high."""
    differences = [
        np.subtract(cell[order]["plain"], cell[order]["refined"]) for cells in groups for cell in cells
    ]  # [images] each
    gains = 100 * np.mean(differences, axis=0)
    draw = np.random.default_rng(0).integers(0, len(gains), (_BOOTSTRAP, len(gains)))
    low, high = np.quantile(gains[draw].mean(axis=1), [0.025, 0.975])
    return float(low), float(gains.mean()), float(high)


if __name__ == "__main__":
    main()
