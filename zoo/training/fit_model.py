"""The model that a `zoo.fit` trains: the user's own on one device, a copy of it on several."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras

from zoo import workdir as folders
from zoo.config import Config
from zoo.engine import checkpoints, private_apis
from zoo.engine.rate_level import LeveledRate
from zoo.engine.state import array, averaged
from zoo.errors import BadInput
from zoo.keras_task import parts, task
from zoo.keras_task.optimizer import copied, transfer
from zoo.keras_task.sources import Examples


class Data(NamedTuple):
    """Examples of a run, and how an epoch is cut.

    Attributes:
        train: training examples.
        validation: validation examples, or None.
        batch_size: examples per step.
        steps: steps per epoch.
        validation_batch_size: examples per batch of an evaluation.
    """

    train: Examples
    validation: Examples | None
    batch_size: int
    steps: int
    validation_batch_size: int


class Training:
    """The user's model and optimizer, and those that the engine trains.

    Args:
        model: the user's model, built.
        schedule: learning rate instead of the optimizer's own, or None.
        replicas: number of devices.
    """

    def __init__(
        self, model: keras.Model, schedule: keras.optimizers.schedules.LearningRateSchedule | None, replicas: int
    ):
        self._model, self._schedule, self._replicas = model, schedule, replicas
        self._trained = model
        self._optimizer: keras.optimizers.Optimizer | None = None
        if replicas == 1:
            # Outside of a strategy's scope, as the model is: moments are made beside their variables.
            self._optimizer = copied(model.optimizer, model, model, schedule)

    def model_to_train(self, examples: Examples) -> keras.Model:
        """The model for the strategy in scope: on several devices a copy, whose variables are on all of them.

        Raises:
            BadInput: the model cannot be copied.
        """
        if self._replicas > 1:
            self._trained = _copy(self._model, examples)
            self._optimizer = copied(self._model.optimizer, self._model, self._trained, self._schedule)
        return self._trained

    def parts(
        self, trained: keras.Model, config: Config, data: Data, keras_task: task.KerasTask, shuffle: bool
    ) -> dict[str, Any]:
        """The attributes of the run's experiment, of which `keras_task` is the task of the user's model."""
        made, _ = parts.experiment_parts(
            trained,
            config,
            data.train,
            data.validation,
            shuffle=shuffle,
            optimizer=self._optimizer,
            validation_batch_size=data.validation_batch_size,
            # A penalty belongs to the variables of one model.
            keras_task=keras_task if trained is self._model else None,
            is_checked=True,
        )
        return made

    def sync(self) -> None:
        """Gives the user's model and optimizer the present weights and state."""
        if self._trained is not self._model:
            for own, other in zip(self._trained.weights, self._model.weights, strict=True):
                other.assign(array(own))
        if not self._model.optimizer.built:
            self._model.optimizer.build(self._model.trainable_variables)
        transfer(self._optimizer, self._model.optimizer)

    def finish(self, folder: Path, config: Config, result: Mapping[str, float]) -> None:
        """Gives the user's model the weights that the run exports: the last, the best or their average."""
        self.sync()
        self._keep_rate()
        if not (config.exports_best or config.ema or config.swa):
            return
        step = int(result["best/step"]) if config.exports_best else int(result["step"])
        checkpoint, _ = checkpoints.restore(folder / folders.CHECKPOINTS, step)
        for name, value in averaged(checkpoint.state).items():
            # A copy's names may differ, in the same order: model/NUMBER/PATH.
            self._model.weights[int(name.split("/")[1])].assign(value)

    def _keep_rate(self) -> None:
        """Gives the user's optimizer the rate that a plateau has left, as Keras would."""
        rate = private_apis.learning_rate(self._optimizer)
        is_constant = isinstance(private_apis.learning_rate(self._model.optimizer), keras.Variable)
        if isinstance(rate, LeveledRate) and is_constant:
            self._model.optimizer.learning_rate = float(rate(0))


def _copy(model: keras.Model, examples: Examples) -> keras.Model:
    try:
        if isinstance(model, (keras.Sequential, private_apis.functional_model())):
            copy = keras.models.clone_model(model)
        else:
            # `clone_model` would read the losses from their names, too.
            copy = type(model).from_config(model.get_config())
        task.build(copy, examples)
        copy.set_weights(model.get_weights())
    except Exception as error:
        # `get_config` and `__init__` are anybody's code.
        raise BadInput(
            f"the model {model.name!r} cannot be copied for several devices ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:120]}); give its class a get_config() that returns the arguments of "
            "__init__, or use one device"
        ) from error
    arguments = private_apis.compile_arguments(model)
    copy.compile(**{name: value for name, value in arguments.items() if value is not None})
    return copy
