"""Random draws in the pipeline of a dataset, such as augmentation; an order that is shuffled is none."""

import re
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.engine import private_apis

# Those whose draws depend on nothing but their seed.
_STATELESS = re.compile(r"Stateless(Random(?!Get)|TruncatedNormal|Parameterized|Multinomial|Sample|Shuffle)")
# What moves on a seed: the variable of Keras' SeedGenerator, a tf.random.Generator.
_STATES = ("AssignVariableOp", "AssignAddVariableOp", "RngReadAndSkip")
_WITH_GENERATOR = re.compile(r"Stateful(Uniform|StandardNormal|TruncatedNormal|Random)")
_CACHE = "CacheDataset"


def of_tensorflow(dataset: tf.data.Dataset) -> str:
    """The random operations in the functions of a dataset: stateful ones, and stateless ones whose seed changes.

    What Python draws in `from_generator` and `py_function` is not seen. What is before a `cache` is drawn once anyway.
    """
    return ", ".join(sorted(_operations(dataset)))


def has_random_map(dataset: Any) -> bool:
    """Whether a Grain dataset has a `random_map`, whose draws are a function of the index, so twice the same."""
    return "RandomMap" in type(dataset).__name__ or any(map(has_random_map, dataset.parents))


def is_same(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether two arrays are the same, NaN included."""
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    return bool((one == two).all()) if one.dtype == object else one.tobytes() == two.tobytes()


def _operations(dataset: tf.data.Dataset) -> set[str]:
    if type(dataset).__name__ == _CACHE:
        return set()
    found = set().union(*map(_operations, private_apis.dataset_inputs(dataset)))
    for graph in private_apis.dataset_graphs(dataset):
        operations = [each for part in _with_inner(graph) for each in part.get_operations()]
        moves = any(each.type in _STATES for each in operations)
        found |= {each.type for each in operations if _draws(each) or (moves and _STATELESS.match(each.type))}
    return found


def _with_inner(graph: tf.Graph) -> list[tf.Graph]:
    return [graph, *(each for inner in private_apis.inner_graphs(graph) for each in _with_inner(inner))]


def _draws(operation: tf.Operation) -> bool:
    """Whether an operation has a state of its own from which it draws."""
    attributes = {attribute.name for attribute in operation.op_def.attr}
    return bool(_WITH_GENERATOR.match(operation.type)) or {"seed", "seed2"} <= attributes
