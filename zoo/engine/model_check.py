"""What the engine asks of a model before it is traced."""

import keras

from zoo.errors import BadInput


def check(model: keras.Model) -> None:
    """Refuses models that cannot learn.

    Raises:
        BadInput: the model has no weights yet, or none that is trained.
    """
    if not model.built:
        raise BadInput(f"the model {model.name!r} has no weights yet: give it an Input, or build it, inside build()")
    if not model.trainable_variables:
        frozen = f"all {len(model.weights)} are frozen" if model.weights else "none of its layers has any"
        raise BadInput(f"the model {model.name!r} has no trainable weights: {frozen}; expected at least one to train")


def seeds(model: keras.Model) -> list[keras.Variable]:
    """Seed states of Keras' own random layers, which are not among the model's weights."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
