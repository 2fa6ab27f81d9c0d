"""Private APIs of Keras and TensorFlow that the zoo depends on, one function each.

tests/test_upstream.py fails as soon as a public one takes their place.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import keras
import tensorflow as tf
from keras.src import backend, models
from keras.src.trainers import compile_utils
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


def dataset_inputs(dataset: tf.data.Dataset) -> list[tf.data.Dataset]:
    """The datasets that a dataset is made of."""
    return list(dataset._inputs())


def dataset_graphs(dataset: tf.data.Dataset) -> list[tf.Graph]:
    """The graphs of the functions that a dataset itself calls, as that of `map`."""
    return [wrapper.function.graph for wrapper in dataset._functions()]


def functional_model() -> type[keras.Model]:
    """The class of models that are made from inputs and outputs."""
    return models.Functional


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


def compile_arguments(model: keras.Model) -> dict[str, Any]:
    """The arguments of `model.compile` as they were given; `get_compile_config` serializes them."""
    return dict(model._compile_config.config)


def compile_loss(loss: Any, loss_weights: Any, output_names: list[str] | None) -> Callable[..., Any]:
    """What `fit` calls as `f(y, y_pred, sample_weight)`: finds the target and the weights of each loss."""
    return compile_utils.CompileLoss(loss, loss_weights, output_names=output_names)


def loss_factors(resolver: Callable[..., Any]) -> list[tuple[float | None, str]]:
    """Factor and name of each loss of a `compile_loss` that has been called."""
    return [(each.loss_weights, each.name) for each in resolver._flat_losses]


def compile_metrics(metrics: Any, weighted: Any, output_names: list[str] | None) -> keras.metrics.Metric:
    """What `fit` updates with `(y, y_pred, sample_weight)`: finds the target of each metric, and names it."""
    return compile_utils.CompileMetrics(metrics, weighted, output_names=output_names)


def loss_object(identifier: Any, y_true: Any, y_pred: Any) -> keras.losses.Loss:
    """The loss that `compile` means; "crossentropy" depends on the shapes."""
    return compile_utils.get_loss(identifier, y_true, y_pred)


def metric_object(identifier: Any, y_true: Any, y_pred: Any) -> keras.metrics.Metric:
    """The metric that `compile` means; "accuracy" depends on the shapes."""
    return compile_utils.get_metric(identifier, y_true, y_pred)


def metric_values(metric: keras.metrics.MeanMetricWrapper, y_true: Any, y_pred: Any) -> Any:
    """The values whose mean a metric is."""
    return metric._fn(y_true, y_pred, **metric._fn_kwargs)


def mask_of(tensor: Any) -> tf.Tensor | None:
    """The mask that layers attach to their outputs, or a loss to its values."""
    return backend.get_keras_mask(tensor)


def set_mask(tensor: tf.Tensor, mask: tf.Tensor) -> None:
    """Attaches a mask to a tensor, as a layer does."""
    backend.set_keras_mask(tensor, mask)


def learning_rate(optimizer: keras.optimizers.Optimizer) -> Any:
    """The learning rate as it was given: a number in a variable, a schedule or a function."""
    return optimizer._learning_rate


def is_decayed(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> bool:
    """Whether an optimizer's weight decay applies to a variable; `exclude_from_weight_decay` only sets it."""
    return optimizer._use_weight_decay(variable)


def metric_direction(metric: keras.metrics.Metric) -> str:
    """`up` where a larger metric is better, `down` where a smaller one is; empty where Keras does not know."""
    return getattr(metric, "_direction", None) or ""


def local_copy(variable: tf.Variable) -> tf.Variable:
    """This replica's copy of a distributed variable, which may be assigned to without the other replicas."""
    return variable._get() if hasattr(variable, "_get") else variable


def reduction(strategy: tf.distribute.Strategy) -> tf.distribute.CrossDeviceOps | None:
    """What adds up the replicas' values in a strategy, where it says."""
    return getattr(strategy.extended, "_cross_device_ops", None)
