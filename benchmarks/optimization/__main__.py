"""Study of optimizers, schedules and regularizers on three small trainings.

    python -m benchmarks.optimization --out=runs/optimization --page=page.md
    python -m benchmarks.optimization --out=runs/optimization --only=mlp --tables=schedules

Each seed draws 4,000 training, 1,000 validation and up to 5,000 test examples, and the weights. A choice is tried with
the learning rates of its kind; the validation accuracy picks one for each seed, and the test accuracy of that run
counts. No choice is made by the test split. Tables:

- optimizers: each at equal steps, and at equal seconds: as many steps as Adam's time allows at the pace that both had
  in their runs of equal steps. Choices that need large batches have equal seconds only.
- schedules: Adam with each schedule, at Adam's best constant rate of the seed or three times as much.
- regularizers: Adam at its best rate for three times the steps, so that there is something to regularize. A step of
  SAM costs two.

Means over the seeds with Student's 95 % interval, in %, and the gain over plain Adam of the same seeds. Beside them,
the linear model of the experiment. With --page the tables are written into that page, between its marks. Results are
kept in `--out` and not computed again. Times count only where nothing else runs.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from scipy import stats

import zoo
from benchmarks.optimization.choices import OPTIMIZERS, PLAIN, REGULARIZERS, SCHEDULE_CHOICES, Choice, of
from benchmarks.optimization.tasks import TASKS, Task
from zoo import files

_TABLES = ("optimizers", "schedules", "regularizers")
_LONGER = 3
# Of the steps that an equal time allows; a step of second order may take the time of a hundred.
_LEAST_STEPS = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing, prints the tables, and writes them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of data, runs and results")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default=",".join(TASKS), help="names of trainings, with commas")
    parser.add_argument("--tables", default=",".join(_TABLES), help="names of tables, with commas")
    parser.add_argument("--page", type=Path, help="page with a mark for each table, such as <!-- mlp optimizers -->")
    options = parser.parse_args(arguments)
    for name in options.only.split(","):
        study = Study(name, TASKS[name], options.out / name, options.seeds)
        for table in options.tables.split(","):
            lines = getattr(study, table)()
            print(f"\n{name}: {table}\n\n" + "\n".join(lines), flush=True)
            if options.page:
                write(options.page, f"{name} {table}", lines)


def write(page: Path, mark: str, lines: Sequence[str]) -> None:
    """Replaces what stands between `<!-- mark -->` and `<!-- end -->`."""
    before, found, after = page.read_text().partition(f"<!-- {mark} -->\n")
    if not found:
        raise SystemExit(f"{page} has no mark <!-- {mark} -->")
    _, end, after = after.partition("<!-- end -->")
    files.write(page, "\n".join([before + found, *lines, "", end + after]))


class Study:
    """The runs of one training.

    Args:
        name: what it is called.
        task: the training.
        out: folder of its data and runs.
        seeds: number of seeds.
    """

    def __init__(self, name: str, task: Task, out: Path, seeds: int):
        self._name, self._task, self._out, self._seeds = name, task, out, range(seeds)
        self._rates: dict[int, float] = {}

    def optimizers(self) -> list[str]:
        """Lines of the table of optimizers."""
        rows, plain = [], None
        for choice in self._of(OPTIMIZERS):
            equal_steps = None if choice.kind == "own" else [self._best(choice, seed) for seed in self._seeds]
            plain = plain or equal_steps
            same_time = plain if choice.name == PLAIN else [self._at_equal_seconds(choice, s) for s in self._seeds]
            rows.append([choice.name, *_cells(equal_steps, plain), *_cells(same_time, plain), self._pace(same_time)])
        head = ["optimizer", "equal steps", "over Adam", "equal seconds", "over Adam", "steps then"]
        return [*_table(head, rows), "", self._linear()]

    def schedules(self) -> list[str]:
        """Lines of the table of schedules."""
        plain = [self._best(OPTIMIZERS[0], seed) for seed in self._seeds]
        rows = [
            [choice.name, *_cells([self._best(choice, seed) for seed in self._seeds], plain)]
            for choice in self._of(SCHEDULE_CHOICES)
        ]
        return _table(["schedule", "accuracy", "over the constant rate"], rows)

    def regularizers(self) -> list[str]:
        """Lines of the table of regularizers."""
        steps, rows, plain = _LONGER * self._task.steps, [], None
        for choice in self._of(REGULARIZERS):
            found = [self._best(choice, seed, steps) for seed in self._seeds]
            plain = plain or found
            gap = np.mean([100 * (each["train/accuracy"] - each["eval/accuracy"]) for each in found])
            rows.append([choice.name, *_cells(found, plain), f"{gap:+.1f}"])
        return _table(["regularizer", "accuracy", "over none", "training over validation accuracy"], rows)

    def _of(self, choices: list[Choice]) -> list[Choice]:
        known = of(choices, type(self._task.config(self._out, steps=1)))
        return [choice for choice in known if choice.flags.get("optimizer") not in self._task.refuses]

    def _rate(self, seed: int) -> float:
        """Adam's best rate."""
        if seed not in self._rates:
            self._rates[seed] = self._best(OPTIMIZERS[0], seed)["rate"]
        return self._rates[seed]

    def _best(self, choice: Choice, seed: int, steps: int = 0) -> dict[str, float]:
        """The result with the rate that has the best validation accuracy; among equals, the smallest rate."""
        if choice.kind in ("best", "wide"):
            rates = (self._rate(seed), 3 * self._rate(seed))[: 1 + (choice.kind == "wide")]
        else:
            rates = self._task.rates[choice.kind]
        results = [self._run(choice, seed, choice.factor * rate, steps or self._task.steps) for rate in rates]
        return max(results, key=lambda each: each["eval/accuracy"])

    def _at_equal_seconds(self, choice: Choice, seed: int) -> dict[str, float]:
        adam = self._best(OPTIMIZERS[0], seed)
        trial = self._run(choice, seed, 1.0, 2 * _LEAST_STEPS) if choice.kind == "own" else self._best(choice, seed)
        batch = choice.flags.get("batch_size", adam["batch"])
        seconds = self._task.steps * adam["batch"] / adam["train/examples_per_second"]
        steps = max(_LEAST_STEPS, round(seconds * trial["train/examples_per_second"] / batch))
        return self._run(choice, seed, trial["rate"], steps)

    def _run(self, choice: Choice, seed: int, rate: float, steps: int) -> dict[str, float]:
        data = self._out / f"data-{seed}"
        if not data.exists():
            data.mkdir(parents=True)
            self._task.data(data, seed)
        flags = "".join(f" {name}={value}" for name, value in choice.flags.items())
        folder = self._out / f"seed={seed} rate={rate:g} steps={steps}{flags}"
        flags = {"seed": seed, "learning_rate": rate, "steps": steps, "eval_every": max(1, steps // 10)}
        config = self._task.config(data, **flags | {"baseline": choice.name == PLAIN} | choice.flags)
        if not (folder / "result.json").exists():
            keras.backend.clear_session()
            zoo.run(self._task.build, config, folder)
        result = json.loads((folder / "result.json").read_text())
        return result | {"rate": rate, "batch": config.batch_size, "steps": result["step"]}

    def _pace(self, results: Sequence[dict[str, float]]) -> str:
        return f"{np.mean([each['steps'] for each in results]):,.0f}"

    def _linear(self) -> str:
        values = [100 * self._best(OPTIMIZERS[0], seed)["test/baseline_accuracy"] for seed in self._seeds]
        return f"The linear model of the experiment: {_mean(values)}."


def _cells(found: list[dict[str, float]] | None, plain: list[dict[str, float]]) -> list[str]:
    """Mean accuracy, and gain over the plain training."""
    if found is None:
        return ["", ""]
    own, other = ([100 * each["test/accuracy"] for each in results] for results in (found, plain))
    return [_mean(own), "" if found is plain else _mean(np.subtract(own, other), "+")]


def _mean(values: Sequence[float], sign: str = "") -> str:
    """Mean and half of Student's 95 % interval."""
    count, mean = len(values), np.mean(values)
    if count < 2:
        return f"{mean:{sign}.2f}"
    half = stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count)
    return f"{mean:{sign}.2f} ± {half:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


if __name__ == "__main__":
    main()
