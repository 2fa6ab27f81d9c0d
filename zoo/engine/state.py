"""State of a run as arrays by name, as checkpoints store it and other runs start from."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import BadInput

# Prefix of the weights' moving averages, instead of `model/`.
AVERAGE = "average/"
# Likewise of the first weights, that `--l2_sp` pulls towards.
START = "start/"


def named(model: keras.Model, of: Callable = lambda variable: variable.numpy()) -> dict[str, Any]:
    """A model's weights, as arrays or `of(variable)`, by names that do not depend on Keras' layer counters."""
    # Depending on how a model was built, Keras prefixes some paths with the model's name.
    paths = [plain_path(variable).removeprefix(f"{_plain(model.name)}/") for variable in model.weights]
    return {f"model/{i:04d}/{path}": of(variable) for i, (path, variable) in enumerate(zip(paths, model.weights))}


def averaged(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The `model/` part of a state, with the moving averages instead of the weights if the run kept them."""
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
    """A variable's path without the numbers that Keras appends to repeated layer names in a process."""
    return "/".join(_plain(part) for part in variable.path.split("/"))


def array(variable: keras.Variable | tf.Variable) -> np.ndarray:
    """A variable's current value on one replica."""
    value = variable.value if isinstance(variable, keras.Variable) else variable
    return (value.read_value() if hasattr(value, "read_value") else value).numpy()


def copies(strategy: tf.distribute.Strategy, variables: Sequence[keras.Variable]) -> list[tf.Variable]:
    """Variables for the moving averages of weights, or their first values.

    Each replica has its own copy; equal updates keep them equal, so that no update needs the other replicas.
    """
    with strategy.scope():
        return [
            tf.Variable(
                array(variable),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            for variable in variables
        ]


def _plain(name: str) -> str:
    return re.sub(r"_\d+$", "", name)
