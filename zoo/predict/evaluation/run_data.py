"""A run's own data, split as they were for it."""

from pathlib import Path
from typing import Any

from zoo.data.datasets import extra_examples, images, tagging, text_classification
from zoo.data.datasets.tagging import TaggingDataset
from zoo.data.datasets.text_splits import TextDataset, Texts
from zoo.data.splits import Splits
from zoo.data.text.special_tokens import PAIR_SEPARATOR
from zoo.predict.predictors.text_classifier import TextClassifier, TextRegressor
from zoo.predict.predictors.text_inputs import Example


def run_texts(run: dict[str, Any], more: bool = True) -> TextDataset:
    """The texts of a run, split as they were for it; `more`: with those of its --more_file."""
    config, folder = run["config"], run.get("folder", ".")
    names = ("train_file", "eval_file", "text_column", "label_column", "pair_column")
    given = {name: config[name] for name in names if config.get(name)}
    for name in ("train_file", "eval_file"):
        if name in given:
            # As it was typed, in the folder where it was typed.
            given[name] = str(Path(folder, Path(given[name]).expanduser()))
    found = text_classification.load(config.get("dataset", ""), values=config.get("task") == "regression", **given)
    if not more or not config.get("more_file"):
        return found
    added = str(Path(folder, Path(config["more_file"]).expanduser()))
    return extra_examples.texts(found, added, *(config.get(f"{name}_column", "") for name in ("text", "label", "pair")))


def as_examples(predictor: TextClassifier | TextRegressor, found: Texts) -> list[Example]:
    """Texts, or pairs of them, as the predictor takes them."""
    return [tuple(text.split(PAIR_SEPARATOR)) for text in found.texts] if predictor.pair_column else found.texts


def run_arrays(run: dict[str, Any]) -> Splits:
    """The data set of a run on arrays, split as it was for it, without its --more_file."""
    config = run["config"]
    dataset = config.get("dataset", "")
    if dataset not in images.NAMES:
        # As it was typed, in the folder where it was typed.
        dataset = str(Path(run.get("folder", "."), Path(dataset).expanduser()))
    return images.load(dataset, config.get("label_column", "label"), config.get("weight_column", ""))


def run_sentences(run: dict[str, Any]) -> TaggingDataset:
    """The sentences of a run, split as they were for it."""
    config = run["config"]
    given = {name: config[name] for name in ("train_file", "eval_file", "test_file") if config.get(name)}
    # As they were typed, in the folder where they were typed.
    paths = {name: str(Path(run.get("folder", "."), Path(value).expanduser())) for name, value in given.items()}
    return tagging.load(config.get("dataset", ""), **paths, **conll_columns(config))


def conll_columns(config: dict[str, Any]) -> dict[str, int]:
    """Which columns of its CoNLL files a run reads."""
    return {name: config[name] for name in ("token_column", "tag_column") if name in config}
