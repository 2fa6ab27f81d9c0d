"""What the engine asks of a model before it is traced."""

import keras

from zoo.engine.private_apis import all_layers
from zoo.errors import BadInput

# These change weights in the forward pass, outside the optimizer.
_STATEFUL = (keras.layers.BatchNormalization, keras.layers.SpectralNormalization)


def check(model: keras.Model, parts: int) -> None:
    """Refuses layers whose statistics or noise would depend on the hardware, and models that cannot learn.

    Args:
        model: the model.
        parts: slices that the global batch is split into.

    Raises:
        BadInput: names the layer and what to use instead.
    """
    if not model.built:
        raise BadInput(f"the model {model.name!r} has no weights yet: give it an Input, or build it, inside build()")
    if not model.trainable_variables:
        frozen = f"all {len(model.weights)} are frozen" if model.weights else "none of its layers has any"
        raise BadInput(f"the model {model.name!r} has no trainable weights: {frozen}; expected at least one to train")
    idle = _idle_seeds(model)
    own = [seed for seed in seeds(model) if id(seed) not in idle]
    if own and parts > 1:
        raise BadInput(
            f"{own[0].path}: a Keras layer with its own random state cannot be split over {parts} replicas x "
            "micro-batches; use zoo.Dropout, whose masks belong to the examples"
        )
    for layer in all_layers(model):
        if isinstance(layer, _STATEFUL) and layer.trainable:
            raise BadInput(
                f"{layer.name}: {type(layer).__name__} learns from each replica's rows, padding included; use "
                "zoo.models.layers.BatchNorm, or freeze it with trainable=False"
            )


def seeds(model: keras.Model) -> list[keras.Variable]:
    """Seed states of Keras' own random layers, which are not among the model's weights."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _idle_seeds(model: keras.Model) -> set[int]:
    """Identities of unused seed states: recurrent layers have one even without dropout."""
    cells = keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.SimpleRNNCell
    return {
        id(layer.seed_generator.state)
        for layer in all_layers(model)
        if isinstance(layer, cells) and not layer.dropout and not layer.recurrent_dropout
    }
