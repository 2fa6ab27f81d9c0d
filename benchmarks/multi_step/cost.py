"""What multi-step prediction costs: milliseconds per example of each stage and of `auto`, beside plain prediction.

    python -m benchmarks.multi_step.cost runs/multi_step runs/multi_step/mnist-0 runs/multi_step/fashion_mnist-0
    python -m benchmarks.multi_step.cost runs/multi_step runs/multi_step/mnist-0 --plans=auto --streams=noise

Streams of test images of each RUN in batches of 200 and one by one, as they are, with noise and rotated (severity 3):
what a stage costs depends on what it finds. A new refiner first answers a warm-up, which compiles all programs and
fills its memory of 400 examples; then plain prediction and the plans answer the next examples in turn, several times,
so that a busy machine slows all of them alike. `cost-RUN-RUNTIME.json` in WORK keeps both clocks: the wall's, and
that of the processor, which counts all threads and no other program. `section-cost.md` in WORK has the table of the
processor's. Run with `OMP_NUM_THREADS=1
TF_NUM_INTRAOP_THREADS=1` to compare machines. About five minutes a run on an idle core.
"""

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from zoo.adaptation import plans
from zoo.adaptation.refiner import Refiner
from zoo.data.datasets.image_corruptions import corrupted
from zoo.errors import BadInput
from zoo.predict.evaluation import arrays, held_out
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors import loading
from zoo.predict.predictors.predictor import Classifier
from zoo.workdir import read_run

_PLANS = ("statistics", "coral", "coherence", "output", "input", "auto")
_STREAMS = ("clean", "noise", "rotation")
_SEVERITY, _MEMORY, _ROUNDS = 3, 400, 5
# Examples of a repetition, by the size of a batch: two batches, or as many single ones as take about a second.
_EXAMPLES = {200: 400, 1: 40}


def main() -> None:
    """Measures the missing runs and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder of the figures")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="trained classifiers of images")
    parser.add_argument("--plans", default=",".join(_PLANS), help="plans with commas between")
    parser.add_argument("--streams", default=",".join(_STREAMS), help="clean, and names of corruptions")
    parser.add_argument("--runtimes", default="compiled,litert", help="of single examples, with commas between")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    figures = {}
    for run, runtime in itertools.product(arguments.runs, arguments.runtimes.split(",")):
        path = arguments.work / f"cost-{run.name}-{runtime}.json"
        if not path.exists():
            cells = measured(run, arguments.plans.split(","), arguments.streams.split(","), runtime)
            path.write_text(json.dumps(cells))
        figures[f"{run.name}, {runtime}"] = json.loads(path.read_text())
    text = section(figures)
    (arguments.work / "section-cost.md").write_text(text)
    print(text)


def measured(run: Path, names: list[str], streams: list[str], runtime: str = "compiled") -> list[dict[str, Any]]:
    """Times of one run.

    Args:
        run: folder of the run, a classifier of uint8 images.
        names: plans.
        streams: "clean", or corruptions.
        runtime: "compiled", or "litert" for single examples; see `loading.load`.

    Returns:
        For each stream and size of a batch: `stream`, `batch`, and `wall` and `processor` with milliseconds per example
        of each repetition by plan, `plain` among them.

    Raises:
        BadInput: the run is no classifier of images.
    """
    predictor = loading.load(run, runtime=runtime)
    if predictor.task != "classification" or not predictor.takes_images:
        raise BadInput(f"{run} is no classifier of uint8 images, expected one")
    source = held_out.load(run, predictor)
    test = arrays.own_test(predictor, read_run(run))["x"]
    # In random order: a file may be sorted by class.
    examples = test[np.random.default_rng(0).permutation(len(test))]
    cells = []
    for stream in streams:
        images = examples if stream == "clean" else corrupted(examples, stream, _SEVERITY)
        for batch, count in _EXAMPLES.items():
            if batch > 1 and runtime == "litert":
                continue  # Batches are computed by the compiled model in any case.
            cells.append(
                {"stream": stream, "batch": batch} | _times(run, predictor, source, names, images, batch, count)
            )
            print(run.name, _row(run.name, cells[-1]), flush=True)
    return cells


def section(figures: dict[str, list[dict[str, Any]]]) -> str:
    """The Markdown section with the table of all runs.

    Args:
        figures: figures of `measured` by the run's name.
    """
    names = list(next(iter(figures.values()))[0]["processor"])
    titles = ["run", "stream", "batch", *names]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    lines += [_row(run, cell) for run, cells in figures.items() for cell in cells]
    return (
        "## Cost\n\nMilliseconds of the processor per example (seconds per 1,000 examples), median of "
        f"{_ROUNDS} interleaved repetitions, their range in brackets; then how many times plain prediction. Batches of "
        f"200 and single examples, after a warm-up that fills the memory of {_MEMORY}; corruptions of severity "
        f"{_SEVERITY}. Written by `python -m benchmarks.multi_step.cost`.\n\n" + "\n".join(lines) + "\n"
    )


class _Contender:
    """One way of answering a stream."""

    def __init__(self, predictor: Classifier, refiner: Refiner | None):
        self._answer = predictor.probabilities if refiner is None else refiner.answer
        self.wall: list[float] = []
        self.processor: list[float] = []

    def answer(self, images: np.ndarray, batch: int) -> None:
        """Answers a part of the stream."""
        for first in range(0, len(images), batch):
            self._answer(images[first : first + batch])

    def measure(self, images: np.ndarray, batch: int) -> None:
        """The same with its time."""
        wall, processor = time.perf_counter(), time.process_time()
        self.answer(images, batch)
        self.processor.append(1e3 * (time.process_time() - processor) / len(images))
        self.wall.append(1e3 * (time.perf_counter() - wall) / len(images))


def _times(
    run: Path, predictor: Classifier, source: HeldOut, names: list[str], images: np.ndarray, batch: int, count: int
) -> dict[str, dict[str, list[float]]]:
    """Milliseconds per example of each repetition by plan, on both clocks."""
    contenders = {"plain": _Contender(predictor, None)}
    for name in names:
        refiner = Refiner(predictor, plans.stages([name], predictor, run), source)
        contenders[name] = _Contender(predictor, refiner)
    for contender in contenders.values():
        contender.answer(_part(images, 0, _MEMORY), 200)
        contender.answer(_part(images, _MEMORY, min(batch * 2, count)), batch)
    for number in range(_ROUNDS):
        part = _part(images, _MEMORY + (number + 1) * count, count)
        for contender in contenders.values():
            contender.measure(part, batch)
    return {
        clock: {name: getattr(contender, clock) for name, contender in contenders.items()}
        for clock in ("wall", "processor")
    }


def _part(images: np.ndarray, first: int, count: int) -> np.ndarray:
    """The next images of the stream, which begins again where they end."""
    return images[np.arange(first, first + count) % len(images)]


def _row(run: str, cell: dict[str, Any]) -> str:
    times = {name: np.array(values) for name, values in cell["processor"].items()}
    columns = [run, cell["stream"], str(cell["batch"])]
    for name, values in times.items():
        text = f"{np.median(values):.3g} ({values.min():.3g} to {values.max():.3g})"
        # The ratio of each repetition: what slows a machine for a while slows all contenders.
        ratio = "" if name == "plain" else f", {np.median(values / times['plain']):.3g} times"
        columns.append(text + ratio)
    return f"| {' | '.join(columns)} |"


if __name__ == "__main__":
    main()
