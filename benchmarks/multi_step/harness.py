"""Never quietly worse: `--refine=auto` against plain prediction, on some three hundred pairs of model and stream.

    python -m benchmarks.multi_step.harness runs/harness                      # seed 0, then docs/refinement_harness.md
    python -m benchmarks.multi_step.harness runs/harness --fast               # twelve cells, two minutes
    python -m benchmarks.multi_step.harness runs/harness --seeds=0,1,2
    python -m benchmarks.multi_step.harness runs/harness --only=iris,mnist_norm:sorted --fresh

Trains the models that the folder lacks (`harness_models`), answers each stream (`harness_streams`, `harness_shifts`) by
the trained model and by a plan, and keeps the answers of each cell as JSON; a cell that is there is not measured again
(`--fresh`: the plan's are, the plain ones are kept). A seed draws the test examples, the first weights and the streams.
No example of a stream was trained on or chosen by. Prints a line for each cell and the failures; exit code 1 where
there is one:

- **failure**: the plan loses more than half a point of accuracy, and the 95 % interval of the loss excludes 0;
- **certain failure**: the interval excludes half a point, too.

The interval is that of the mean difference over blocks of examples (`harness_streams`) and seeds, by paired bootstrap.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.multi_step import harness_models, harness_page, harness_shifts, harness_streams
from benchmarks.multi_step.harness_streams import UNKNOWN, Pool, Stream
from zoo.adaptation import plans
from zoo.adaptation.refiner import Refiner
from zoo.errors import BadInput
from zoo.metrics.logits import class_probabilities, two_class_logits
from zoo.predict.evaluation import held_out
from zoo.predict.predictors import loading
from zoo.predict.predictors.cloning import digest
from zoo.predict.predictors.predictor import Classifier

# Twelve cells of each kind of data, and of streams that adaptation often fails on.
FAST = {
    "mnist_norm": ("clean", "sorted", "noise", "noise, sorted", "bursts"),
    "breast_cancer": ("clean", "label shift", "units"),
    "packages": ("sorted", "label shift", "dropped words", "new classes"),
}
# Longest streams: the pose of an image takes the time of a hundred texts.
_LONGEST = {"images": 300, "table": 800, "texts": 600}
_TINY = 1e-12


def main(argv: list[str] | None = None) -> None:
    """Measures the missing cells, writes the page, and exits with 1 where the plan fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder of runs and cells")
    parser.add_argument("--seeds", default="0", help="seeds with commas between (default: 0)")
    parser.add_argument("--only", default="", help="models, streams after a colon: iris,mnist_norm:sorted,:bursts")
    parser.add_argument("--fast", action="store_true", help="twelve cells")
    parser.add_argument("--fresh", action="store_true", help="measure the plan's answers again")
    parser.add_argument("--plan", default="auto", help="value of --refine (default: auto)")
    parser.add_argument("--page", type=Path, help="page to renew the tables of")
    arguments = parser.parse_args(argv)
    only = ",".join(f"{name}:{stream}" for name, each in FAST.items() for stream in each)
    wanted = _Wanted(only if arguments.fast else arguments.only)
    for seed in map(int, arguments.seeds.split(",")):
        for name in filter(wanted.has_model, harness_models.MODELS):
            try:
                _measure(arguments, name, seed, wanted)
            except BadInput as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
    cells = harness_page.read(arguments.work, arguments.plan, wanted.has)
    if arguments.page:
        harness_page.renew(arguments.page, cells, arguments.plan)
    failures = harness_page.failures(cells)
    print("\n".join(failures) or f"no failure in {len(cells)} cells")
    sys.exit(bool(failures))


class _Wanted:
    """The cells that `--only` names, `MODEL:STREAM`; streams may contain a comma and a space."""

    def __init__(self, only: str):
        pairs = [each.partition(":") for each in only.replace(", ", "\0").split(",") if each]
        self._pairs = [(model, stream.replace("\0", ", ")) for model, _, stream in pairs] or [("", "")]

    def has_model(self, model: str) -> bool:
        return any(wanted in ("", model) for wanted, _ in self._pairs)

    def has(self, model: str, stream: str) -> bool:
        return any(one in ("", model) and other in ("", stream) for one, other in self._pairs)


def _measure(arguments: argparse.Namespace, name: str, seed: int, wanted: _Wanted) -> None:
    """Measures the missing cells of one model."""
    run = harness_models.trained(arguments.work, name, seed)
    predictor = loading.load(run)
    pool = _pool(name, seed, predictor)
    paths = {
        stream: harness_page.path(arguments.work, arguments.plan, name, stream, seed)
        for stream in harness_streams.names(pool)
        if wanted.has(name, stream)
    }
    paths = {stream: path for stream, path in paths.items() if arguments.fresh or not path.exists()}
    if not paths:
        return
    before = digest(predictor.model)
    plan = plans.stages(arguments.plan.split(","), predictor, run)
    # One refiner for all streams, as its programs are compiled once.
    refiner = Refiner(predictor, plan, held_out.load(run, predictor))
    for stream, path in paths.items():
        plain = harness_page.path(arguments.work, "plain", name, stream, seed)
        made = list(harness_streams.streams(pool, stream, seed))
        if not plain.exists():
            _write(plain, [_answered(predictor.logits, each) for each in made])
        refined = [_refined(refiner, each) for each in made]
        _write(path, refined)
        cell = harness_page.cell(name, stream, [(json.loads(plain.read_text()), refined)])
        print(f"seed {seed}  {harness_page.line(cell)}", flush=True)
    assert digest(predictor.model) == before, "the source weights have changed"


def _pool(name: str, seed: int, predictor: Classifier) -> Pool:
    data = harness_models.data(name, seed)
    known = {label: index for index, label in enumerate(predictor.classes)}
    labels = np.array([known.get(label, UNKNOWN) for label in data.test_y.tolist()])
    shifts = harness_shifts.shifts(data, predictor)
    return Pool(harness_shifts.examples(data, predictor), labels, shifts, _LONGEST[data.kind])


def _refined(refiner: Refiner, stream: Stream) -> dict[str, Any]:
    refiner.reset()
    first = len(refiner.trace)
    answers = _answered(refiner.answer, stream, is_logits=False)
    trace = refiner.trace[first:]
    kept = {entry.stage: [0, 0] for entry in trace}
    for entry in trace:
        kept[entry.stage][0] += entry.accepted
        kept[entry.stage][1] += 1
    return answers | {"kept": kept}


def _answered(answer: Any, stream: Stream, is_logits: bool = True) -> dict[str, Any]:
    """Of the known examples: whether each is right, its log loss, its confidence, and its block; and the seconds."""
    start = time.perf_counter()
    parts = [answer(batch) for batch in _batches(stream)]
    seconds = time.perf_counter() - start
    outputs = np.concatenate(parts)
    probabilities = class_probabilities(two_class_logits(outputs)) if is_logits else outputs
    scored = np.flatnonzero(stream.labels != UNKNOWN)
    labels, probabilities = stream.labels[scored], probabilities[scored]
    losses = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], _TINY))
    return {
        "right": (probabilities.argmax(axis=1) == labels).astype(int).tolist(),
        "loss": losses.round(6).tolist(),
        "confidence": probabilities.max(axis=1).round(6).tolist(),
        "block": stream.blocks[scored].tolist(),
        "seconds_per_1000": 1000 * seconds / len(stream.labels),
    }


def _batches(stream: Stream) -> Iterator[Any]:
    for first in range(0, len(stream.labels), stream.batch):
        yield stream.examples[first : first + stream.batch]


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


if __name__ == "__main__":
    main()
