"""Copies of predictors, whose models may change while the source stays as it is."""

import hashlib
from typing import Any

import keras
import numpy as np

from zoo.predict.predictors.array_classifier import ArrayClassifier
from zoo.predict.predictors.text_classifier import TextClassifier

Classifier = ArrayClassifier | TextClassifier


def copied(predictor: Classifier) -> Classifier:
    """The same predictor with a model of its own, of the same weights."""
    model = keras.models.clone_model(predictor.model)
    model.set_weights(predictor.model.get_weights())
    return _with(predictor, model, predictor.classes)


def compiled(predictor: Classifier) -> Classifier:
    """The same predictor with the same model, which answers for single examples, too."""
    return predictor if predictor.lite is None else _with(predictor, predictor.model, predictor.classes)


def reading(predictor: Classifier, tensor: Any) -> Classifier:
    """A predictor whose `logits` are what the model has at a tensor, `[examples, channels]`; of the same weights."""
    width = tensor.shape[-1]
    return _with(predictor, keras.Model(predictor.model.inputs, tensor), tuple(map(str, range(width))))


def _with(predictor: Classifier, model: keras.Model, classes: tuple[str, ...]) -> Classifier:
    if isinstance(predictor, ArrayClassifier):
        return ArrayClassifier(model, classes, predictor.largest, predictor.features)
    reads = predictor.tokenizer, predictor.max_length, predictor.cut, predictor.text_column
    return TextClassifier(model, classes, *reads, predictor.frame, predictor.pair_column)


def digest(model: keras.Model) -> str:
    """SHA-256 of all weights: the same before and after whatever is done to a copy."""
    found = hashlib.sha256()
    for weight in model.weights:
        found.update(np.ascontiguousarray(weight.numpy()).data)
    return found.hexdigest()
