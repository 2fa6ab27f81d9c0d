"""Copies of predictors, whose models may change while the source stays as it is."""

import hashlib

import keras
import numpy as np

from zoo.predict.predictor import Predictor
from zoo.predict.texts import TextPredictor

Classifier = Predictor | TextPredictor


def copied(predictor: Classifier) -> Classifier:
    """The same predictor with a model of its own, of the same weights."""
    model = keras.models.clone_model(predictor.model)
    model.set_weights(predictor.model.get_weights())
    if isinstance(predictor, Predictor):
        return Predictor(model, predictor.classes, predictor.largest)
    reading = predictor.tokenizer, predictor.max_length, predictor.cut, predictor.text_column
    return TextPredictor(model, predictor.classes, *reading, predictor.frame, predictor.pair_column)


def digest(model: keras.Model) -> str:
    """SHA-256 of all weights: the same before and after whatever is done to a copy."""
    found = hashlib.sha256()
    for weight in model.weights:
        found.update(np.ascontiguousarray(weight.numpy()).data)
    return found.hexdigest()
