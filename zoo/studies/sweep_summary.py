"""What a sweep has found: sweep.json, and a table of its trials."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo import files
from zoo import workdir as folders
from zoo.errors import BadInput
from zoo.metrics.confusion import aligned
from zoo.studies import pairs
from zoo.studies.space import Dimension
from zoo.training import several_runs

if TYPE_CHECKING:
    import optuna

_TEST = "test/"
# Of a trial's error in the table.
_LONGEST = 60


class Trial(NamedTuple):
    """A trial.

    Attributes:
        number: from 0.
        folder: its folder in that of the sweep.
        state: "complete", "pruned", "failed" or "running".
        params: its values as texts by the names of the flags.
        values: the metric of each seed; empty where it is not complete.
        evaluations: the metric at each evaluation of the first seed that pruning was decided by.
        seconds: how long it took.
        error: why it failed or was pruned.
    """

    number: int
    folder: str
    state: str
    params: dict[str, str]
    values: tuple[float, ...]
    evaluations: dict[int, float]
    seconds: float
    error: str

    @property
    def is_over(self) -> bool:
        return self.state != "running"

    @property
    def mean(self) -> float:
        """The value that the trial is judged by."""
        return math.fsum(self.values) / len(self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's 95 % interval of the mean over the seeds; None of one seed."""
        if len(self.values) < 2:
            return None
        found = several_runs.summary(self.values)
        return found.low, found.high


class Summary(NamedTuple):
    """A sweep so far.

    Attributes:
        metric: what trials are judged by, such as "eval/loss".
        larger_is_better: whether the best trial has the largest value.
        trials: the trials in the order in which they began.
        test: the number of the trial that was measured on the test split, its `result`, and `earlier` ones; or None.
    """

    metric: str
    larger_is_better: bool
    trials: list[Trial]
    test: Mapping[str, Any] | None

    @property
    def ranked(self) -> list[Trial]:
        """The complete trials, the best first; of equal ones the earlier."""
        complete = [each for each in self.trials if each.state == "complete"]
        return sorted(complete, key=lambda each: -each.mean if self.larger_is_better else each.mean)

    @property
    def best(self) -> Trial | None:
        """The best trial."""
        return next(iter(self.ranked), None)

    def is_near(self, trial: Trial) -> bool:
        """Whether a trial's mean lies in the interval of the best one's."""
        ends = self.best.interval if self.best is not None else None
        return ends is not None and bool(trial.values) and ends[0] <= trial.mean <= ends[1]


def folder_name(number: int) -> str:
    """The folder of a trial; shells list a thousand of them in order."""
    return f"trial_{number:03d}"


def of_trial(trial: "optuna.trial.FrozenTrial", params: dict[str, str]) -> Trial:
    """A trial of Optuna's storage, with its values as texts."""
    attributes, names = trial.user_attrs, {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    return Trial(
        trial.number,
        folder_name(trial.number),
        names.get(trial.state.name, "running"),
        params,
        tuple(attributes.get("values", ())),
        dict(trial.intermediate_values),
        float(attributes.get("seconds", 0.0)),
        attributes.get("error") or attributes.get("pruned") or "",
    )


def tests(result: Mapping[str, float]) -> dict[str, float]:
    """The test metrics of a result, without the confusion matrix."""
    return {name: value for name, value in result.items() if name.startswith(_TEST) and "/confusion/" not in name}


def write_table(folder: Path, summary: Summary, dimensions: Sequence[Dimension]) -> None:
    """Adds the trials that are over to TensorBoard's HParams tab.

    Args:
        folder: its log directory.
        summary: the sweep.
        dimensions: the space: a flag all of whose values are numbers has a column of numbers.
    """
    numbers = {each.name for each in dimensions if not any(isinstance(_typed(one), str) for one in each.choices)}
    from zoo.tensorboard import sweep_table

    over = [each for each in summary.trials if each.is_over]
    names = list(over[0].params)
    sessions = [
        sweep_table.Session(
            each.folder,
            {name: float(each.params[name]) if name in numbers else each.params[name] for name in names},
            each.mean if each.values else None,
            each.seconds,
        )
        for each in over
    ]
    sweep_table.write(folder, sessions, summary.metric)


def _typed(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def as_json(summary: Summary) -> dict[str, Any]:
    """The summary as sweep.json has it, the best trial first."""
    numbers = [each.number for each in summary.ranked]
    others = [each for each in summary.trials if each.number not in numbers]
    best = summary.best
    return {
        "metric": summary.metric,
        "larger_is_better": summary.larger_is_better,
        "best": None if best is None else best.number,
        "trials": [_trial_as_json(each, summary) for each in [*summary.ranked, *others]],
        "test": summary.test,
    }


def _trial_as_json(trial: Trial, summary: Summary) -> dict[str, Any]:
    content = trial._asdict()
    if trial.values:
        low, high = trial.interval or (None, None)
        content |= {"mean": trial.mean, "low": low, "high": high, "near_the_best": summary.is_near(trial)}
    return content


def read(workdir: Path) -> dict[str, Any]:
    """sweep.json of a folder; {} where there is none.

    Raises:
        BadInput: it is torn.
    """
    try:
        content = files.read_json(workdir / folders.SWEEP)
        if not isinstance(content, dict):
            raise ValueError("it is not an object")
        return content
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{workdir / folders.SWEEP} cannot be read ({error}); restore it or choose another --workdir"
        ) from None


def report(summary: Summary) -> str:
    """The table of the trials, the best first, and the test metrics of the best one."""
    names = list(summary.trials[0].params)
    seeds = max(len(each.values) for each in summary.trials)
    interval = (f"95 % interval, {seeds} seeds",) if seeds > 1 else ()
    rows = [("trial", summary.metric, *interval, *names, "seconds", "")]
    for each in [*summary.ranked, *(each for each in summary.trials if each.state != "complete")]:
        ends = each.interval
        middle = (f"{ends[0]:.4f} .. {ends[1]:.4f}" if ends else "",) if interval else ()
        value = f"{each.mean:.4f}" if each.values else ""
        params = (shown(each.params[name]) for name in names)
        rows.append((str(each.number), value, *middle, *params, f"{each.seconds:.0f}", _remark(each, summary)))
    return "\n".join([aligned(rows), *_notes(summary, seeds), *_test_lines(summary)])


def _remark(trial: Trial, summary: Summary) -> str:
    if trial == summary.best:
        return "best"
    if trial.state == "complete":
        return "in its interval" if summary.is_near(trial) else ""
    error = trial.error if len(trial.error) <= _LONGEST else f"{trial.error[:_LONGEST]}…"
    return error if trial.state == "pruned" else f"{trial.state}: {error}".removesuffix(": ")


def _notes(summary: Summary, seeds: int) -> list[str]:
    lines = ["", f"{summary.metric} is that of the validation split, by which the trials are chosen"]
    if seeds == 1:
        lines.append("one seed tells nothing of how close the trials are: --seeds=3 gives intervals")
    return lines


def _test_lines(summary: Summary) -> list[str]:
    """The test metrics of the best trial."""
    if summary.test is None:
        return []
    number, result = summary.test["trial"], summary.test["result"]
    plain = {name.removeprefix(_TEST): value for name, value in result.items() if value is not None}
    rows = [("metric", "value", "95 % interval")]
    for name in pairs.chosen(list(plain), ()):
        ends = f"{plain[f'{name}_low']:.4f} .. {plain[f'{name}_high']:.4f}" if f"{name}_low" in plain else ""
        rows.append((name, f"{plain[name]:.4f}", ends))
    lines = ["", f"test split, of trial {number} alone ({folder_name(number)}):", aligned(rows)]
    if summary.test["earlier"]:
        earlier = ", ".join(map(str, summary.test["earlier"]))
        lines.append(f"the test split was measured before, for trial {earlier}; the more looks, the less it tells")
    return lines


def shown(text: str) -> str:
    """A value as it is printed: numbers with four digits."""
    number = _typed(text)
    return text if isinstance(number, str) or text.isdecimal() else f"{number:.4g}"
