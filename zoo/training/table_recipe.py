"""Flags that the experiments on tables share whose default network is always the one for tables."""

import dataclasses

from zoo.config import SCHEDULES, setting
from zoo.models import mlp
from zoo.training.table_data import TableConfig


@dataclasses.dataclass(frozen=True)
class TableRecipe(TableConfig):
    """Config of a run on a table whose pace follows from the number of examples (docs/tables.md)."""

    epochs: float | None = setting(
        None, "Passes over the training data. 0: from --steps. Unset: 600 to 4,000 steps.", minimum=0, may_change=True
    )
    batch_size: int | None = setting(
        None, "Examples per step, over all devices. Unset: 32 to 128, fewer for small tables.", minimum=1
    )
    optimizer: str | None = setting(None, "Unset: adamw.")
    learning_rate: float | None = setting(None, "Peak rate. Unset: 0.002.", minimum=0)
    schedule: str | None = setting(None, "Learning-rate schedule after the warm-up. Unset: cosine.", choices=SCHEDULES)
    warmup_fraction: float | None = setting(
        None,
        "Fraction of the schedule's steps that warm up, unless --warmup_steps is set. Unset: 0.05.",
        minimum=0,
        less_than=1,
    )
    patience: int | None = setting(
        None,
        "Evaluations without a better --metric before the run stops early; 0: never. Unset: 15.",
        minimum=0,
        may_change=True,
    )
    eval_every: int | None = setting(
        None, "Steps between two evaluations. 0: every epoch. Unset: sixty a run.", minimum=0, may_change=True
    )
    hidden: tuple[int, ...] = setting((64, 64), "Widths of the hidden layers.", minimum=1)
    members: int = setting(8, "Networks side by side, whose mean answers.", minimum=1)
    bins: int = setting(8, "Pieces of a column's encoding between quantiles.", minimum=0, maximum=256)
    norm: str = setting("none", "Normalisation before each activation.", choices=mlp.NORMS)
