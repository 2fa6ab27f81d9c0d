"""The inputs of a classifier's last layer: the features that SHOT, T3A, LAME and neighbours compare."""

import keras

from zoo.errors import BadInput
from zoo.predict.predictors.cloning import reading
from zoo.predict.predictors.predictor import Classifier


def last_features(predictor: Classifier, flag: str) -> Classifier:
    """A predictor whose `logits` are the features `[examples, width]`, by the model as it is when called.

    Args:
        predictor: a classifier.
        flag: what asks for the features, for the message: "--refine=t3a".

    Raises:
        BadInput: the last layer is not a dense layer of one input `[examples, width]`.
    """
    last = predictor.model.layers[-1]
    is_dense = isinstance(last, keras.layers.Dense) and isinstance(last.input, keras.KerasTensor)
    if not is_dense or len(last.input.shape) != 2:
        raise BadInput(f"{flag}: the model's last layer is {last.name!r}; expected a dense layer of one input")
    return reading(predictor, last.input)
