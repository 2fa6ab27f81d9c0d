"""Private APIs of Keras and TensorFlow that the zoo depends on, one function each.

tests/test_upstream.py fails as soon as a public one takes their place.
"""

from types import ModuleType

import keras
import tensorflow as tf
from keras.src import backend
from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
from tensorflow.python.eager import context


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


def configure_heartbeats(jobs: dict[str, int], seconds: int) -> None:
    """Sets how long a worker may be silent; TensorFlow's own choice is 10 s, and an hour at the start.

    Args:
        jobs: number of workers by job, the first worker's job first.
        seconds: longest silence.
    """
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{next(iter(jobs))}/replica:0/task:0",
        cluster_register_timeout_in_ms=seconds * 1000,
        heartbeat_timeout_in_ms=seconds * 1000,
        coordinated_jobs=[
            coordination_config_pb2.CoordinatedJob(name=job, num_tasks=count) for job, count in jobs.items()
        ],
    )


def report_error(message: str) -> None:
    """Aborts the collective operations of all workers; each raises an error with this message."""
    context.context().report_error_to_cluster(tf.errors.CANCELLED, message)
