"""What the experiments on tables share: flags of the data, reading them, and the first layer of a network."""

import dataclasses
from typing import Any

import numpy as np

from zoo.config import Config, setting
from zoo.data.datasets import class_labels, column_kinds, images
from zoo.data.datasets.image_folders import ImageOptions
from zoo.data.datasets.label_sets import LabelSets
from zoo.data.splits import Splits
from zoo.models import table_encoding, tabular
from zoo.training.delimited_flags import DelimitedFlags
from zoo.training.fold_flags import FoldFlags


@dataclasses.dataclass(frozen=True)
class TableConfig(DelimitedFlags, FoldFlags, Config):
    """Flags of tables and other arrays of one's own."""

    eval_file: str = setting("", "Validation examples for --train_file. Empty: a tenth of its examples.", before="")
    test_file: str = setting("", "Test examples for --train_file. Empty: a tenth of its examples.", before="")
    label_column: str = setting("label", "Column of a table with the classes or the values to predict.")
    weight_column: str = setting("", "Column of a table with example weights. Empty: equal weights.")
    ignore_columns: str = setting(
        "", "Columns of a table that are no features (identities, say), with commas between them.", before=""
    )
    categorical: str = setting(
        "",
        "Columns of a table to read as categories, with commas between them. Others are found: docs/tables.md.",
        before="",
    )
    numeric: str = setting("", "Columns of a table to read as numbers, with commas between them.", before="")
    decimal: str = setting(".", "Decimal mark of a table's numbers.", choices=(".", ","), before=".")
    split: str = setting(
        "random",
        "How a table is split: random; group:COLUMN keeps the rows of a group (a patient, say) together; time:COLUMN "
        "validates and tests on the last rows, as a forecast is used.",
        before="random",
    )
    drop_unlabelled: bool = setting(False, class_labels.DROP_UNLABELLED_HELP, before=False)


def load(
    config: TableConfig,
    *,
    values: bool = False,
    image_options: ImageOptions | None = None,
    labels: LabelSets | None = None,
) -> Splits:
    """The data that a config names.

    Args:
        config: config of the run, with a `dataset`.
        values: whether `y` are numbers to predict, float32 `[examples]`, instead of classes.
        image_options: how the images of a folder are read.
        labels: how a table says which of several labels an example has; None: an example has one class or value.

    Raises:
        BadInput: the data are missing or malformed, as in `images.load`.
    """
    return images.load(
        config.dataset,
        config.label_column,
        config.weight_column,
        eval_file=config.eval_file,
        test_file=config.test_file,
        ignore_columns=config.ignore_columns,
        drop_unlabelled=config.drop_unlabelled,
        columns=column_kinds.options(config.categorical, config.numeric, config.decimal),
        values=values,
        split=config.split,
        image_options=image_options,
        fold=config.tested_fold(),
        form=config.file_format(),
        labels=labels,
    )


def about(config: TableConfig, data: Splits) -> dict[str, Any]:
    """What model.json says of the columns and the files."""
    said = config.about_files()
    if data.features:
        # A table for prediction may have its columns in another order: they are matched by name.
        said["features"] = list(data.features)
    if data.schema is not None:
        said["columns"] = data.schema.as_json()
    return said


def is_table(x: np.ndarray, scale: float = 0.0) -> bool:
    """Whether examples are float columns in memory, `[examples, columns]`."""
    return x.ndim == 2 and not scale and not isinstance(x, np.memmap)


def encoding(data: Splits, bins: int):
    """The first layer of a network for tables; see `tabular.quantile_encoding` and `table_encoding`."""
    if data.schema is None:
        return tabular.quantile_encoding(data.train["x"], bins)
    return table_encoding.table_encoding(data.train["x"], data.schema.categories, bins)


def encoded(data: Splits, layer) -> Splits:
    """The data as a linear model reads them: scaled, categories as one-hot vectors, missing values filled in.

    Args:
        data: the splits.
        layer: from `encoding`; only the units that a linear model needs are kept.
    """
    parts = {
        name: getattr(data, name) | {"x": np.asarray(layer(getattr(data, name)["x"]))[:, : layer.linear_units]}
        for name in ("train", "validation", "test")
    }
    return dataclasses.replace(data, **parts, schema=None)


def linear(data: Splits) -> Splits:
    """The data as a linear model reads them, without the network's own encoding of quantiles."""
    return encoded(data, encoding(data, 0))


def batch_size(examples: int) -> int:
    """The recipe's batch size for tables: small batches regularize, and a small table has enough of them."""
    return 32 if examples < 500 else 64 if examples < 2000 else 128


def schedule(examples: int, batch_size: int, steps: int) -> dict[str, Any]:
    """The recipe's length and pace for tables, see docs/tables.md.

    Args:
        examples: number of training examples.
        batch_size: examples per step.
        steps: the config's `steps`; 0 for the recipe's.
    """
    per_epoch = -(-examples // batch_size)
    own = min(max(100 * per_epoch, 600), 4000)
    return {
        "optimizer": "adamw",
        "learning_rate": 2e-3,
        "schedule": "cosine",
        "epochs": own / per_epoch,
        "warmup_fraction": 0.05,
        "eval_every": max(1, (steps or own) // 60),
        "patience": 15,
    }
