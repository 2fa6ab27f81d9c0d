"""Private APIs of Keras and TensorFlow that the zoo depends on, one function each.

tests/test_upstream.py fails as soon as a public one takes their place.
"""

from types import ModuleType

import keras
import tensorflow as tf
from keras.src import backend


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The model and every layer inside it, at any depth; `model.layers` has only the first level."""
    return model._flatten_layers()


def variable_index(optimizer: keras.optimizers.Optimizer, variable: keras.Variable | tf.Variable) -> int:
    """Position of a variable in the list that the optimizer was built for, to find its slots in `update_step`."""
    return optimizer._get_variable_index(variable)


def traced_step(step: int) -> tf.profiler.experimental.Trace:
    """Marks a training step in a profile; `_r` makes it a root event, by which the Profile tab groups the others."""
    return tf.profiler.experimental.Trace("train", step_num=step, _r=1)


def inner_graphs(graph: tf.Graph) -> list[tf.Graph]:
    """The graphs of the functions that a graph calls, such as the bodies of its loops."""
    return [function.graph for function in graph._functions.values()]


def random_functions() -> ModuleType:
    """The module whose functions `keras.random` and Keras' layers call; replacing them there reaches all of them."""
    return backend.random


def seed_dtype() -> str:
    """The type of what `SeedGenerator.next` returns."""
    return backend.random_seed_dtype()
