"""Study of optimizers, schedules and regularizers on three small trainings.

    python -m benchmarks.optimization --out=runs/optimization --page=docs/optimization.md
    python -m benchmarks.optimization --out=runs/optimization --only=mlp --tables=schedules

Each seed draws 4,000 training, 1,000 validation and up to 5,000 test examples, and the weights. A choice is tried with
the learning rates of its kind; the validation accuracy picks one for each seed, and the test accuracy of that run
counts. No choice is made by the test split. Tables:

- optimizers: each at equal steps, and at equal processor time: as many steps as Adam's time allows, by the processor
  time of their steps (`pace.py`). Where a step takes within 10 % of Adam's time, these are the runs of equal steps.
  Choices that need large batches have equal time only.
- schedules: Adam with each schedule, at Adam's best constant rate of the seed or three times as much.
- regularizers: Adam at its best rate, for twice the steps where it does not overfit in fewer. A step of SAM costs two.

Means over the seeds with Student's 95 % interval, in %, and the gain over plain Adam of the same seeds. Beside them,
the linear model of the experiment. With --page the tables that have marks there are written into that page. Results are
kept in `--out` and not computed again; none of them depends on what else the machine does.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.optimization.choices import OPTIMIZERS, PLAIN, REGULARIZERS, SCHEDULE_CHOICES, Choice, of
from benchmarks.optimization.runs import Runs
from benchmarks.optimization.tasks import TASKS, Task
from zoo import files
from zoo.training import several_runs

_TABLES = ("optimizers", "schedules", "regularizers")
# A step whose processor time differs by less is as long as Adam's.
_SAME = 0.1
# Of the steps that an equal time allows; a step of second order may take the time of a hundred.
_LEAST_STEPS = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing, prints the tables, and writes them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of data and results")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default=",".join(TASKS), help="names of trainings, with commas")
    parser.add_argument("--tables", default=",".join(_TABLES), help="names of tables, with commas")
    parser.add_argument("--page", type=Path, help="page with a mark for each table, such as <!-- mlp optimizers -->")
    options = parser.parse_args(arguments)
    for name in options.only.split(","):
        study = Study(TASKS[name], options.out / name, options.seeds)
        for table in options.tables.split(","):
            lines = getattr(study, table)()
            print(f"\n{name}: {table}\n\n" + "\n".join(lines), flush=True)
            if options.page:
                write(options.page, f"{name} {table}", lines)


def write(page: Path, mark: str, lines: Sequence[str]) -> None:
    """Replaces what stands between `<!-- mark -->` and `<!-- end -->`."""
    before, found, after = page.read_text().partition(f"<!-- {mark} -->\n")
    if not found:
        print(f"{page} has no mark <!-- {mark} -->: not written into it")
        return
    _, end, after = after.partition("<!-- end -->")
    files.write(page, "\n".join([before + found, *lines, "", end + after]))


class Study:
    """The tables of one training.

    Args:
        task: the training.
        out: folder of its data and results.
        seeds: number of seeds.
    """

    def __init__(self, task: Task, out: Path, seeds: int):
        self._task, self._runs, self._out, self._seeds = task, Runs(task, out), out, range(seeds)

    def optimizers(self) -> list[str]:
        """Lines of the table of optimizers."""
        choices = self._of(OPTIMIZERS)
        # All before the first pace is measured: a run clears what Keras remembers.
        steps = {each.name: [self._best(each, seed) for seed in self._seeds] for each in choices if each.kind != "own"}
        plain, rows = steps[PLAIN.name], []
        ratios = {each.name: 1.0 if each is PLAIN else self._runs.ratio(each, self._a_rate(each)) for each in choices}
        for choice in choices:
            equal, ratio = steps.get(choice.name), ratios[choice.name]
            same_time = equal if equal and abs(ratio - 1) <= _SAME else self._at_equal_time(choice, ratio)
            count = f"{same_time[0]['step']:,.0f}"
            rows.append([choice.name, *_cells(equal, plain), f"{ratio:.2f}", count, *_cells(same_time, plain)])
        cost, same = "time of a step / Adam's", "steps in equal processor time (same within 10 %)"
        head = ["optimizer", "equal steps", "over Adam", cost, same, "equal processor time", "over Adam"]
        return [*_table(head, rows), "", self._linear()]

    def schedules(self) -> list[str]:
        """Lines of the table of schedules."""
        choices = self._of(SCHEDULE_CHOICES)
        found = [[self._best(choice, seed) for seed in self._seeds] for choice in choices]
        rows = [[choice.name, *_cells(own, found[0])] for choice, own in zip(choices, found, strict=True)]
        return _table(["schedule", "accuracy", "over the constant rate"], rows)

    def regularizers(self) -> list[str]:
        """Lines of the table of regularizers."""
        choices, steps = self._of(REGULARIZERS), self._task.longer * self._task.steps
        found = [[self._best(choice, seed, steps) for seed in self._seeds] for choice in choices]
        rows = [
            [choice.name, *_cells(own, found[0]), f"{_gap(own):+.1f}"]
            for choice, own in zip(choices, found, strict=True)
        ]
        return _table(["regularizer", "accuracy", "over none", "training over validation accuracy"], rows)

    def _of(self, choices: list[Choice]) -> list[Choice]:
        known = of(choices, type(self._task.config(self._out, steps=1)))
        return [choice for choice in known if choice.name not in self._task.leaves_out]

    def _a_rate(self, choice: Choice) -> float:
        """A learning rate to measure the pace with, which does not depend on it."""
        return 1.0 if choice.kind == "own" else self._best(choice, 0)["rate"]

    def _best(self, choice: Choice, seed: int, steps: int = 0) -> dict[str, float]:
        """The result with the rate that has the best validation accuracy; among equals, the smallest rate."""
        if choice.kind in ("best", "wide"):
            best = self._best(PLAIN, seed)["rate"]
            rates = (best, 3 * best)[: 1 + (choice.kind == "wide")]
        else:
            rates = self._task.rates[choice.kind]
        steps = steps or self._task.steps
        results = [self._runs.result(choice, seed, float(f"{choice.factor * rate:g}"), steps) for rate in rates]
        return max(results, key=lambda each: each["eval/accuracy"])

    def _at_equal_time(self, choice: Choice, ratio: float) -> list[dict[str, float]]:
        steps = max(_LEAST_STEPS, round(self._task.steps / ratio))
        if choice.kind == "own":
            return [self._runs.result(choice, seed, 1.0, steps) for seed in self._seeds]
        return [self._runs.result(choice, seed, self._best(choice, seed)["rate"], steps) for seed in self._seeds]

    def _linear(self) -> str:
        rate = self._task.rates["adaptive"][0]
        found = [self._runs.result(PLAIN, seed, rate, 1, baseline=True) for seed in self._seeds]
        return f"The linear model of the experiment: {_mean([100 * each['test/baseline_accuracy'] for each in found])}."


def _cells(found: list[dict[str, float]] | None, plain: list[dict[str, float]]) -> list[str]:
    """Mean accuracy, and gain over the plain training."""
    if found is None:
        return ["", ""]
    own, other = ([100 * each["test/accuracy"] for each in results] for results in (found, plain))
    return [_mean(own), "" if found is plain else _mean(np.subtract(own, other), "+")]


def _gap(found: list[dict[str, float]]) -> float:
    return statistics.fmean(100 * (each["train/accuracy"] - each["eval/accuracy"]) for each in found)


def _mean(values: Sequence[float], sign: str = "") -> str:
    """Mean and half of Student's 95 % interval."""
    if len(values) < 2:
        return f"{values[0]:{sign}.2f}"
    found = several_runs.summary(values)
    return f"{found.mean:{sign}.2f} ± {found.high - found.mean:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


if __name__ == "__main__":
    main()
