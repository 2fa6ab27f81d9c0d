"""How good a tagger is on sentences that it was not trained on."""

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


def evaluate(predictor: Tagger, run: dict[str, Any], dataset: str | None = None) -> dict[str, float]:
    """Judges a tagger.

    As in training, words behind `max_length` of a sentence count as not recognised.

    Args:
        predictor: of the run.
        run: its run.json.
        dataset: None for the test split of the run's own sentences. Else a name, whose test split is used, or a CoNLL
            file with the columns of the run's. Of another data set those sentences are left out that the run was
            trained on or chosen by.

    Returns:
        `examples`, the number of sentences, and all of `entities.evaluate` with its intervals (95 %, bootstrap). Of
        another data set also `left_out`, the number of sentences; it is missing where the run's own sentences cannot be
        read any more.

    Raises:
        BadInput: the data set is not found or not understood, none of its tags is the model's, or no sentence is left.
    """
    if dataset is None:
        own = run_sentences(run)
        _check(predictor, "the run's data set", own.test, own.scheme)
        return _judged(predictor, own.test)
    found, scheme = _other(dataset, run["config"])
    _check(predictor, f"--dataset {dataset}", found, scheme)
    try:
        own = run_sentences(run)
    except BadInput:
        return _judged(predictor, found)
    known = {_key(words) for part in (own.train, own.validation) for words in part.words}
    new = [_key(words) not in known for words in found.words]
    if not any(new):
        raise BadInput(f"--dataset {dataset}: the run was trained on all of its {len(new)} sentences; expected others")
    left = Sentences(*([each for each, keep in zip(column, new) if keep] for column in found))
    return {**_judged(predictor, left), "left_out": new.count(False)}


def _other(dataset: str, config: dict[str, Any]) -> tuple[Sentences, str]:
    path = files.absolute(dataset)
    if dataset in tagging.NAMES:
        found = tagging.load(dataset)
        return found.test, found.scheme
    if not path.exists():
        raise BadInput(f"--dataset is {dataset!r}: {errors.nearest(dataset, tagging.NAMES, 'a CoNLL file')}")
    sentences, scheme, _ = to_iob2(path, conll.read(path, **conll_columns(config)))
    return Sentences([each.words for each in sentences], [each.tags for each in sentences]), scheme


def _check(predictor: Tagger, source: str, found: Sentences, scheme: str) -> None:
    names = {tag for tags in found.tags for tag in tags}
    # A type that the model does not know is counted: nothing of it is found. A file with none that it knows is a slip.
    if scheme != predictor.scheme or not (names & set(predictor.names) - {"O"}):
        raise BadInput(
            f"{source} has the tags {_few(sorted(names))}; expected those of the model: {_few(predictor.names)}"
        )


def _few(names) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _key(words: list[str]) -> str:
    return normalized_key(" ".join(words))


def _judged(predictor: Tagger, found: Sentences) -> dict[str, float]:
    predicted = predictor.tags_of(found.words, whole=False)
    return {"examples": len(predicted), **entities.evaluate(found.tags, predicted, predictor.scheme, final=True)}
