"""The data set of a run, split as in its training."""

from collections.abc import Mapping
from typing import Any

from zoo.data.datasets import (
    column_kinds,
    delimited_format,
    extra_examples,
    images,
    label_sets,
    tagging,
    text_classification,
)
from zoo.data.datasets.delimited_format import DelimitedFormat
from zoo.data.datasets.image_folders import ImageOptions
from zoo.data.datasets.label_sets import LabelSets
from zoo.data.datasets.tagging import TaggingDataset
from zoo.data.datasets.text_splits import TextDataset, Texts
from zoo.data.folds import Fold
from zoo.data.splits import Splits
from zoo.data.text.special_tokens import PAIR_SEPARATOR
from zoo.predict.predictors.predictor import Predictor
from zoo.predict.predictors.text_inputs import Example
from zoo.workdir import Run


def run_texts(run: Run, more: bool = True) -> TextDataset:
    """The texts of a text run, split as in its training; `more`: with those of its --more_file."""
    config = run.config
    names = ("text_column", "label_column", "pair_column", "drop_unlabelled")
    flags = {name: config[name] for name in names if config.get(name)} | run_files(run)
    flags["form"] = file_format(run)
    values = config.get("task") == "regression"
    flags["labels"] = run_label_sets(run)
    dataset = text_classification.load(config.get("dataset", ""), values=values, fold=run_fold(run), **flags)
    if not more or not config.get("more_file"):
        return dataset
    columns = (config.get(f"{name}_column", "") for name in ("text", "label", "pair"))
    drop = bool(config.get("drop_unlabelled"))
    return extra_examples.texts(dataset, str(run.path("more_file")), *columns, drop_unlabelled=drop)


def run_label_sets(run: Run, label_column: str | None = None) -> LabelSets | None:
    """How files say which labels a text has, as the run's own do but for the column; None for another task."""
    config = run.config
    if config.get("task") != "multi_label":
        return None
    column = label_column or config.get("label_column", "label")
    return label_sets.from_flags(column, config.get("label_separator", ""), bool(config.get("empty_is_none")))


def run_fold(run: Run) -> Fold | None:
    """The fold that the run tests on; None for a run on the split of its data."""
    fold = run.config.get("fold")
    return Fold(fold, run.config["folds"]) if fold else None


def run_files(run: Run) -> dict[str, str]:
    """Paths of the run's own training, validation and test file, those that it has, by their flags."""
    return {name: str(run.path(name)) for name in ("train_file", "eval_file", "test_file") if run.config.get(name)}


def file_format(run: Run) -> DelimitedFormat:
    """How the delimited files of a run are written, as far as its flags said so."""
    flags = ("encoding", "delimiter", "no_header", "columns")
    return delimited_format.of_flags(**{name: run.config[name] for name in flags if run.config.get(name)})


def as_examples(predictor: Predictor, data: Texts) -> list[Example]:
    """Texts, or pairs of texts, as the predictor takes them."""
    return [tuple(text.split(PAIR_SEPARATOR)) for text in data.texts] if predictor.pair_column else data.texts


def run_arrays(run: Run, values: bool = False) -> Splits:
    """The data set of a run on arrays, split as in its training, without its --more_file; `values`: of a regression."""
    config = run.config
    dataset = config.get("dataset", "")
    if dataset not in images.NAMES and not (values and dataset == images.DIABETES):
        dataset = str(run.path("dataset"))
    options = own_options(run) | {"columns": column_kinds.options(*(config.get(name, "") for name in _KINDS))}
    return images.load(
        dataset, config.get("label_column", "label"), config.get("weight_column", ""), values=values, **options
    )


# Flags that say what the columns of a table are.
_KINDS = ("categorical", "numeric", "decimal")


def own_options(run: Run) -> dict[str, Any]:
    """How a run on arrays read its own data set: arguments of `images.load`."""
    others: dict[str, Any] = {name: str(run.path(name)) for name in ("eval_file", "test_file") if run.config.get(name)}
    others |= {"image_options": ImageOptions.of_run(run.config), "fold": run_fold(run)}
    names = ("ignore_columns", "drop_unlabelled", "split")
    others["form"] = file_format(run)
    return others | {name: run.config[name] for name in names if run.config.get(name)}


def run_sentences(run: Run) -> TaggingDataset:
    """The sentences of a tagging run, split as in its training."""
    config = run.config
    fix_tags = bool(config.get("fix_tags"))
    return tagging.load(config.get("dataset", ""), **run_files(run), **conll_columns(config), fix_tags=fix_tags)


def conll_columns(config: Mapping[str, Any]) -> dict[str, int]:
    """The columns of CoNLL files that a run reads."""
    return {name: config[name] for name in ("token_column", "tag_column") if name in config}
