"""The state of a run as arrays by name: what checkpoints hold and other runs start from."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import BadInput

# What the names of the weights' moving averages begin with, in the place of `model/`.
AVERAGE = "average/"


def named(model: keras.Model, of: Callable = lambda variable: variable.numpy()) -> dict[str, Any]:
    """A model's weights by a name that does not depend on Keras' counters of layers: arrays, or `of(variable)`."""
    # Keras puts the model's own name before some, depending on how it was made.
    paths = [plain_path(variable).removeprefix(f"{_plain(model.name)}/") for variable in model.weights]
    return {f"model/{i:04d}/{path}": of(variable) for i, (path, variable) in enumerate(zip(paths, model.weights))}


def averaged(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The `model/` part of a state, of this run or another, with its moving averages where it kept some."""
    model = {name: value for name, value in state.items() if name.startswith("model/")}
    return model | {
        name.replace(AVERAGE, "model/", 1): value for name, value in state.items() if name.startswith(AVERAGE)
    }


def assign(variables: Mapping[str, keras.Variable | tf.Variable], values: Mapping[str, np.ndarray]) -> None:
    """Sets variables by name, all or none.

    Raises:
        BadInput: lists missing, unexpected and mis-shaped names.
    """
    wrong = [f"{name}: missing" for name in variables.keys() - values.keys()]
    wrong += [f"{name}: unexpected" for name in values.keys() - variables.keys()]
    for name in variables.keys() & values.keys():
        if tuple(variables[name].shape) != tuple(values[name].shape):
            wrong.append(f"{name}: shape {values[name].shape}, the model has {tuple(variables[name].shape)}")
    if wrong:
        raise BadInput(f"the weights do not fit the model: {'; '.join(sorted(wrong)[:6])} ({len(wrong)} in all)")
    for name, variable in variables.items():
        variable.assign(values[name])


def plain_path(variable: keras.Variable) -> str:
    """A variable's layer and name, without the numbers that Keras gives to the second and later ones of a process."""
    return "/".join(_plain(part) for part in variable.path.split("/"))


def array(variable: keras.Variable | tf.Variable) -> np.ndarray:
    """A variable's present value, of one replica."""
    value = variable.value if isinstance(variable, keras.Variable) else variable
    return (value.read_value() if hasattr(value, "read_value") else value).numpy()


def copies(strategy: tf.distribute.Strategy, model: keras.Model) -> list[tf.Variable]:
    """Variables for the moving averages of the weights.

    One per replica, kept equal by equal updates, so that no update needs the other replicas.
    """
    with strategy.scope():
        return [
            tf.Variable(
                array(variable),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            for variable in model.trainable_variables
        ]


def _plain(name: str) -> str:
    return re.sub(r"_\d+$", "", name)
