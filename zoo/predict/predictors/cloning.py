"""Clones of classifiers, whose models may change while the source's stays as it is."""

import hashlib
from typing import Any

import keras
import numpy as np

from zoo.predict.predictors.predictor import Classifier


def copied(predictor: Classifier) -> Classifier:
    """The same predictor with a copy of its model, weights included."""
    model = keras.models.clone_model(predictor.model)
    model.set_weights(predictor.model.get_weights())
    return predictor.with_model(model, predictor.classes)


def compiled(predictor: Classifier) -> Classifier:
    """The same predictor without LiteRT: the model itself also answers for single examples."""
    return predictor if predictor.lite is None else predictor.with_model(predictor.model, predictor.classes)


def reading(predictor: Classifier, tensor: Any) -> Classifier:
    """A predictor whose `logits` are the values of a tensor of the model, `[examples, channels]`."""
    channels = tuple(map(str, range(tensor.shape[-1])))
    return predictor.with_model(keras.Model(predictor.model.inputs, tensor), channels)


def digest(model: keras.Model) -> str:
    """SHA-256 of all weights, to show that they are unchanged."""
    sha = hashlib.sha256()
    for weight in model.weights:
        sha.update(np.ascontiguousarray(weight.numpy()).data)
    return sha.hexdigest()
