"""The parts of an experiment that a compiled model and its data give."""

from collections.abc import Mapping
from typing import Any

import keras

from zoo.config import Config
from zoo.data.batches import Batches
from zoo.keras_task import columns, sources, task
from zoo.keras_task.optimizer import copied
from zoo.keras_task.sources import Examples


def examples(
    x: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | None = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
) -> tuple[Examples, Examples | None]:
    """Training and validation examples, by the arguments of `fit`; None without validation.

    Raises:
        BadInput: they do not fit each other; see `sources`.
    """
    train, validation = sources.read(x, y, sample_weight, steps=steps_per_epoch), None
    if validation_data is not None:
        given = keras.utils.unpack_x_y_sample_weight(validation_data)
        validation = sources.read(*given, name="validation_data", steps=validation_steps)
    elif validation_split:
        train, validation = sources.split(train, validation_split)
    return sources.weigh_classes(train, class_weight), validation


def experiment_parts(
    model: keras.Model,
    config: Config,
    train: Examples,
    validation: Examples | None,
    *,
    shuffle: bool = True,
    optimizer: keras.optimizers.Optimizer | None = None,
    validation_batch_size: int = 0,
    keras_task: task.KerasTask | None = None,
    is_checked: bool = False,
) -> tuple[dict[str, Any], task.KerasTask]:
    """The attributes of an `Experiment`, and the task.

    Args:
        model: the compiled model to train.
        config: batch size, seed and L2.
        train: training examples.
        validation: validation examples, or None.
        shuffle: whether each epoch has an order of its own.
        optimizer: a copy of the model's optimizer; None to make one.
        validation_batch_size: examples per batch of an evaluation; 0 for the config's.
        keras_task: the model's task; None to make it.
        is_checked: whether the task was tried on the validation examples.
    """
    keras_task = keras_task or task.make(model, train, validation, config.l2)
    if validation is not None and not is_checked:
        task.check(keras_task, model, validation, "validation_data")
    size = validation_batch_size or config.batch_size
    named = {} if validation is None else {"eval": validation}
    parts = {
        "model": model,
        "forward": keras_task.forward,
        "train": Batches(columns.columns(train), config.batch_size, seed=config.seed if shuffle else None),
        "evals": {name: Batches(columns.columns(each), size) for name, each in named.items()},
        "objective": keras_task.objective,
        "optimizer": optimizer or copied(model.optimizer, model, model),
        "compute_metrics": keras_task.compute_metrics,
        "reported_loss": keras_task.reported_loss,
        "notes": (*train.notes, *(validation.notes if validation is not None else ())),
    }
    return parts, keras_task
