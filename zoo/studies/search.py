"""Which values a trial tries, and which trials are ended early: Optuna's samplers, pruners and storage.

The n-th trial is a function of the sweep's seed, n and the trials before it: each draw has a sampler of its own, as one
with a fixed seed would repeat its first draws after every restart.
"""

import itertools
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import BadInput
from zoo.studies.space import Dimension, value_text

if TYPE_CHECKING:
    import optuna

# grid: all combinations, in order. random: independent draws (Bergstra and Bengio, 2012). tpe: Tree-structured Parzen
# Estimator (Bergstra et al., 2011), whose first ten trials are random.
SAMPLERS = ("tpe", "random", "grid")
# median: worse than the median of the earlier trials at the same evaluation, from the sixth trial on. halving:
# asynchronous successive halving (Li et al., 2020). hyperband: several such brackets (Li et al., 2018).
PRUNERS = ("none", "median", "halving", "hyperband")
STORAGE = "optuna.db"
# Not the folder's name, which may change.
STUDY = "sweep"
# Combinations that a grid may have.
_MOST = 10_000
# Attributes of a trial in the storage.
_VALUES, _SECONDS, _ERROR, _PRUNED = "values", "seconds", "error", "pruned"


class Search:
    """The trials of a sweep, kept in a file that `optuna-dashboard` and Optuna itself read.

    Args:
        folder: folder of the sweep.
        dimensions: the space.
        sampler: one of `SAMPLERS`.
        pruner: one of `PRUNERS`.
        seed: seed of the draws.
        larger_is_better: whether the best value is the largest.

    Attributes:
        dimensions: the space.
    """

    def __init__(
        self,
        folder: Path,
        dimensions: Sequence[Dimension],
        sampler: str,
        pruner: str,
        seed: int,
        larger_is_better: bool,
    ):
        optuna = imported()
        self.dimensions = tuple(dimensions)
        self._optuna, self._sampler, self._seed = optuna, sampler, seed
        self._grid = grid(dimensions) if sampler == "grid" else []
        self._distributions = {each.name: _distribution(optuna, each, sampler) for each in dimensions}
        self._whole = {each.name: each.whole for each in dimensions}
        self._study = optuna.create_study(
            storage=f"sqlite:///{folder / STORAGE}",
            study_name=STUDY,
            direction="maximize" if larger_is_better else "minimize",
            pruner=_pruner(optuna, pruner),
            load_if_exists=True,
        )

    @property
    def trials(self) -> list["optuna.trial.FrozenTrial"]:
        """The trials that have begun, in order."""
        waiting = self._optuna.trial.TrialState.WAITING
        return [each for each in self._study.get_trials(deepcopy=False) if each.state != waiting]

    def interrupted(self) -> "optuna.Trial | None":
        """The trial that was stopped, to go on with."""
        running = self._optuna.trial.TrialState.RUNNING
        for each in self.trials:
            if each.state == running:
                return self._optuna.Trial(self._study, each._trial_id)
        return None

    def next(self) -> "optuna.Trial":
        """A new trial."""
        number = len(self.trials)
        waiting = self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.WAITING,))
        # One that was enqueued before a kill is taken first.
        if self._grid and not waiting:
            self._study.enqueue_trial(dict(zip(self._distributions, self._grid[number])))
        self._study.sampler = self._sampler_of(number)
        return self._study.ask(self._distributions)

    def values(self, params: dict[str, Any]) -> dict[str, str]:
        """The values of a trial as they are written on a command line."""
        return {name: value_text(value, self._whole[name]) for name, value in params.items()}

    def complete(self, trial: "optuna.Trial", values: Sequence[float]) -> None:
        """Records the metric of each seed; the trial's value is their mean."""
        trial.set_user_attr(_VALUES, list(values))
        self._study.tell(trial.number, math.fsum(values) / len(values))

    def prune(self, trial: "optuna.Trial", line: str) -> None:
        """Records that a trial was ended early."""
        trial.set_user_attr(_PRUNED, line)
        self._study.tell(trial.number, state=self._optuna.trial.TrialState.PRUNED)

    def fail(self, trial: "optuna.Trial", line: str) -> None:
        """Records that a trial has failed."""
        trial.set_user_attr(_ERROR, line)
        self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)

    def add_seconds(self, trial: "optuna.Trial", seconds: float) -> None:
        """Adds to the time that a trial has taken, its interruptions not counted."""
        trial.set_user_attr(_SECONDS, trial.user_attrs.get(_SECONDS, 0.0) + seconds)

    def shall_end(self, trial: "optuna.Trial", evaluation: int, value: float) -> bool:
        """Whether the pruner ends a trial after an evaluation."""
        known = self._study.get_trials(deepcopy=False)[trial.number].intermediate_values
        # A resumed trial may evaluate once more what it reported before.
        if evaluation not in known:
            trial.report(value, evaluation)
        # Of some pruners it is NumPy's bool, which JSON does not have.
        return bool(trial.should_prune())

    def _sampler_of(self, number: int) -> "optuna.samplers.BaseSampler":
        seed = int(np.random.SeedSequence((self._seed, number)).generate_state(1)[0])
        if self._sampler == "tpe":
            return self._optuna.samplers.TPESampler(seed=seed)
        return self._optuna.samplers.RandomSampler(seed=seed)


def imported() -> Any:
    """Optuna, quiet.

    Raises:
        BadInput: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import optuna
    except ImportError as error:
        raise BadInput(f"a sweep needs Optuna ({error}): pip install 'zoo-keras[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def grid(dimensions: Sequence[Dimension]) -> list[tuple[str, ...]]:
    """All combinations, the last dimension fastest.

    Raises:
        BadInput: a range has no points, or there are too many combinations.
    """
    points = [each.grid() for each in dimensions]
    count = math.prod(map(len, points))
    if count > _MOST:
        raise BadInput(f"--space has {count:,} combinations: expected {_MOST:,} or fewer, or --sampler=tpe")
    return list(itertools.product(*points))


def _distribution(optuna: Any, dimension: Dimension, sampler: str) -> Any:
    if dimension.choices or sampler == "grid":
        return optuna.distributions.CategoricalDistribution(
            dimension.grid() if sampler == "grid" else dimension.choices
        )
    if dimension.whole:
        return optuna.distributions.IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return optuna.distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _pruner(optuna: Any, name: str) -> Any:
    pruners = optuna.pruners
    makes = {
        "none": pruners.NopPruner,
        "median": pruners.MedianPruner,
        "halving": pruners.SuccessiveHalvingPruner,
        "hyperband": pruners.HyperbandPruner,
    }
    return makes[name]()
