"""Evaluation of taggers: entity F1 or tag accuracy."""

import sys
from collections.abc import Mapping
from typing import Any

from zoo import errors, files
from zoo.data.datasets import conll, tagging
from zoo.data.datasets.tag_schemes import to_iob2
from zoo.data.datasets.tagging import Sentences
from zoo.data.datasets.text_splits import normalized_key
from zoo.errors import BadInput
from zoo.metrics import entities
from zoo.predict.evaluation.run_data import conll_columns, run_sentences
from zoo.predict.predictors.tagger import Tagger
from zoo.workdir import Run


def evaluate(predictor: Tagger, run: Run, dataset: str | None = None, fix_tags: bool = False) -> dict[str, float]:
    """Evaluates a tagger.

    Args:
        predictor: tagger of the run.
        run: record of the run.
        dataset: None for the test split of the run's own sentences. Else a name, whose test split is used, or a CoNLL
            file with the columns of the run's, without sentences of the run's training and validation splits.
        fix_tags: whether to accept tags of this file that break their scheme, as does a run with --fix_tags; a warning
            on stderr counts them.

    Returns:
        `examples`, the number of sentences, and the metrics of `entities.evaluate` with their intervals (95 %,
        bootstrap). For another data set also `left_out`, the number of excluded sentences; it is missing where the
        run's own sentences can no longer be read.

    Raises:
        BadInput: the data set is not found or not understood, has none of the model's tags, or no sentence is left.
    """
    if dataset is None:
        own = run_sentences(run)
        _check(predictor, "the run's data set", own.test, own.scheme)
        return _metrics(predictor, own.test)
    sentences, scheme = _other(dataset, run.config, fix_tags or bool(run.config.get("fix_tags")))
    _check(predictor, f"--dataset {dataset}", sentences, scheme)
    try:
        own = run_sentences(run)
    except BadInput:
        return _metrics(predictor, sentences)
    own_keys = {_key(words) for part in (own.train, own.validation) for words in part.words}
    new = [_key(words) not in own_keys for words in sentences.words]
    if not any(new):
        raise BadInput(f"--dataset {dataset}: the run was trained on all of its {len(new)} sentences; expected others")
    left = Sentences(*([each for each, keep in zip(column, new) if keep] for column in sentences))
    return {**_metrics(predictor, left), "left_out": new.count(False)}


def _other(dataset: str, config: Mapping[str, Any], fix_tags: bool) -> tuple[Sentences, str]:
    path = files.absolute(dataset)
    if dataset in tagging.NAMES:
        data = tagging.load(dataset)
        return data.test, data.scheme
    if not path.exists():
        raise BadInput(f"--dataset is {dataset!r}: {errors.nearest(dataset, tagging.NAMES, 'a CoNLL file')}")
    sentences, scheme, notes = to_iob2(path, conll.read(path, **conll_columns(config)), fix_tags)
    for note in notes:
        if note.startswith("WARNING"):
            print(note, file=sys.stderr)
    return Sentences([each.words for each in sentences], [each.tags for each in sentences]), scheme


def _check(predictor: Tagger, source: str, sentences: Sentences, scheme: str) -> None:
    names = {tag for tags in sentences.tags for tag in tags}
    # Entities of a type unknown to the model count as missed. A file with no known type is a mistake.
    if scheme != predictor.scheme or not (names & set(predictor.names) - {"O"}):
        raise BadInput(
            f"{source} has the tags {_few(sorted(names))}; expected those of the model: {_few(predictor.names)}"
        )


def _few(names) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _key(words: list[str]) -> str:
    return normalized_key(" ".join(words))


def _metrics(predictor: Tagger, sentences: Sentences) -> dict[str, float]:
    predicted = predictor.tags_of(sentences.words)
    return {"examples": len(predicted), **entities.evaluate(sentences.tags, predicted, predictor.scheme, final=True)}
