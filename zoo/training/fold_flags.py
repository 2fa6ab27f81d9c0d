"""Flags of cross-validation, `--folds` and `--fold`."""

import dataclasses
import os
from typing import Any

from zoo.config import setting
from zoo.data.folds import Fold
from zoo.errors import BadInput


@dataclasses.dataclass(frozen=True)
class FoldFlags:
    """Fields for the config of an experiment whose examples are split: `class MyConfig(FoldFlags, Config)`."""

    folds: int = setting(
        0,
        "Cross-validation: so many runs, each tested on another part of the examples (docs/cross_validation.md); 5 and "
        "10 are common. 0: one run, on the split.",
        minimum=0,
        maximum=100,
        before=0,
    )
    fold: int = setting(0, "The one of the --folds to run, from 1. 0: all, one after the other.", minimum=0, before=0)

    def tested_fold(self) -> Fold | None:
        """The fold that this run tests on; None for a run on the data's split.

        Raises:
            BadInput: the flags contradict each other or another one.
        """
        check(self)
        return Fold(self.fold, self.folds) if self.fold else None


# Folds that a search for label errors has where --folds is not set.
_FOLDS = 5


def with_folds(config: Any) -> Any:
    """The config with the folds that --find_label_errors needs."""
    if not getattr(config, "find_label_errors", False) or not isinstance(config, FoldFlags):
        return config
    if config.fold:
        raise BadInput(f"--find_label_errors with --fold={config.fold}: it needs all folds; leave --fold out")
    task = getattr(config, "task", "classification")
    if task != "classification":
        raise BadInput(f"--find_label_errors=True with --task={task}: it is for classes; leave it out")
    return config if config.folds else config.replace(folds=_FOLDS)


def is_asked(config: Any) -> bool:
    """Whether a config asks for all folds.

    Raises:
        BadInput: its flags contradict each other.
    """
    if not isinstance(config, FoldFlags):
        return False
    check(config)
    return config.folds > 0 and not config.fold


def check(config: Any) -> None:
    """Refuses flags that do not fit `--folds`.

    Raises:
        BadInput: says which, and why.
    """
    folds, fold = config.folds, config.fold
    if fold > folds:
        meant = f"1 to {folds}" if folds else "--folds as well"
        raise BadInput(f"--fold is {fold} and --folds is {folds}: expected {meant}")
    if not folds:
        return
    if folds == 1:
        raise BadInput("--folds is 1: expected 2 or more, or 0 for one run")
    for name in ("eval_file", "test_file"):
        if getattr(config, name, ""):
            raise BadInput(
                f"--{name} with --folds={folds}: the folds take turns as the test split, and part of the others is for "
                "validation; expected one of the two flags"
            )
    split = getattr(config, "split", "random")
    if split.startswith("time:"):
        raise BadInput(
            f"--split={split} with --folds={folds}: most folds would be tested on what came before the examples that "
            "they learn from; leave --folds out, or use --split=group:COLUMN"
        )
    if getattr(config, "objective", "") == "language_model":
        raise BadInput(f"--folds={folds} with --objective=language_model: they are for labels; leave them out")
    if not fold and (config.strategy == "multiworker" or "TF_CONFIG" in os.environ):
        raise BadInput(f"--folds={folds} with several workers: give --fold as well, and start one fold after the other")
