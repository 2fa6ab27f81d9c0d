"""Predictions as `zoo predict` prints them, by task: a JSON object, and the columns of a line."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from zoo.names import escaped
from zoo.predict.calibration.prediction_intervals import Interval
from zoo.predict.predictors.array_regressor import ArrayRegressor
from zoo.predict.predictors.fill_mask import FillMask, Guess
from zoo.predict.predictors.mask_predict import Filled, MaskPredict
from zoo.predict.predictors.multi_label import Label, MultiLabel
from zoo.predict.predictors.predictor import Classifier, Predictor
from zoo.predict.predictors.printable import visible
from zoo.predict.predictors.tagger import Tagged, Tagger
from zoo.predict.predictors.text_classifier import TextRegressor

# Tasks with several candidates per prediction, of which --top prints the most probable ones.
RANKED = ("classification", "pretraining")


class Formatted(NamedTuple):
    """A prediction as a JSON object, as the columns of a line, and that of a tagger as lines of CoNLL."""

    json: dict[str, Any]
    columns: list[str]
    conll: str = ""


def formatted(predictor: Predictor, prediction: Any, top: int = 1) -> Formatted:
    """Formats one of the predictions of `predictor.predict`.

    Args:
        predictor: predictor of the run.
        prediction: prediction of one example.
        top: how many classes are shown.
    """
    return _FORMATS[predictor.task](predictor, prediction, top)


def _classes(predictor: Classifier, probabilities: np.ndarray, top: int) -> Formatted:
    """Formats probabilities `[classes]`: the decided class first, then the most probable others."""
    [decided] = predictor.decide(probabilities[None]).tolist()
    ranked = (-probabilities).argsort(kind="stable").tolist()
    order = [decided, *(label for label in ranked if label != decided)][:top]
    ranked = [(predictor.classes[label], float(probabilities[label])) for label in order]
    candidates = [{"class": name, "probability": probability} for name, probability in ranked]
    columns = [f"{escaped(name)}\t{probability:.4f}" for name, probability in ranked]
    return Formatted(candidates[0] if top == 1 else {**candidates[0], "top": candidates}, columns)


def _labels(predictor: MultiLabel, labels: list[Label], top: int) -> Formatted:
    columns = [f"{escaped(each.label)}\t{each.probability:.4f}" for each in labels]
    return Formatted({"labels": [each._asdict() for each in labels]}, columns or ["no label"])


def _value(predictor: TextRegressor | ArrayRegressor, value: float | Interval, top: int) -> Formatted:
    if isinstance(value, Interval):
        return Formatted(value._asdict(), [f"{value.value:.6g}\t{value.low:.6g}\t{value.high:.6g}"])
    return Formatted({"value": value}, [f"{value:.6g}"])


def _tags(predictor: Tagger, tagged: Tagged, top: int) -> Formatted:
    json: dict[str, Any] = {"words": tagged.words, "spans": tagged.spans, "tags": tagged.tags}
    if tagged.entities is not None:
        json["entities"] = [entity._asdict() for entity in tagged.entities]
    return Formatted(json, [visible(_marked(tagged))], _conll(tagged))


def _conll(tagged: Tagged) -> str:
    """A line per word: its columns in the file it is from, or the word, and the predicted tag."""
    rows = tagged.columns or [(word,) for word in tagged.words]
    # White space inside a word would end its line or its column.
    lines = ["\t".join([*(" ".join(column.split()) for column in row), tag]) for row, tag in zip(rows, tagged.tags)]
    return "\n".join([*lines, ""])


def _marked(tagged: Tagged) -> str:
    """The text with its entities in brackets, or its words with their tags."""
    if tagged.entities is None:
        return " ".join(f"{word}/{tag}" for word, tag in zip(tagged.words, tagged.tags))
    parts, end = [], 0
    for entity in tagged.entities:
        parts += [tagged.text[end : entity.start], f"[{entity.type} {entity.text}]"]
        end = entity.end
    return "".join([*parts, tagged.text[end:]])


def _filled(predictor: FillMask | MaskPredict, filled: list[list[Guess]] | Filled, top: int) -> Formatted:
    if not isinstance(filled, Filled):
        return _gaps(filled)
    gaps = _gaps(filled.gaps)
    rounds = predictor.rounds if filled.kept else 1
    likelihood = {"one_round": filled.before, "all_rounds": filled.after}
    line = f"log P {filled.before:.4f} by one round, {filled.after:.4f} by {predictor.rounds}"
    return Formatted(gaps.json | {"rounds": rounds, "pseudo_log_likelihood": likelihood}, [*gaps.columns, line])


def _gaps(gaps: Sequence[Sequence[Guess]]) -> Formatted:
    columns = [" ".join(f"{visible(word)} {probability:.4f}" for word, probability in guesses) for guesses in gaps]
    return Formatted({"gaps": [[guess._asdict() for guess in guesses] for guesses in gaps]}, columns)


_FORMATS = {
    "classification": _classes,
    "multi_label": _labels,
    "regression": _value,
    "tagging": _tags,
    "pretraining": _filled,
}
