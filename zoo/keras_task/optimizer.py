"""The optimizer of a compiled model: a copy for the engine, with the state and the exclusions of the original."""

import keras

from zoo.engine import optimizers, private_apis
from zoo.engine.state import array
from zoo.errors import BadInput


def copied(
    original: keras.optimizers.Optimizer,
    model: keras.Model,
    trained: keras.Model,
    schedule: keras.optimizers.schedules.LearningRateSchedule | None = None,
) -> keras.optimizers.Optimizer:
    """A built copy, which shares a schedule of the learning rate with the original but no variable.

    Weight decay applies to the variables that the original decays, which are all by default.

    Args:
        original: the optimizer of `model`.
        model: the compiled model.
        trained: the model that the copy trains: the same, or a copy of it in the strategy's scope.
        schedule: learning rate of the copy instead of the original's.

    Raises:
        BadInput: an option that the engine replaces, or a class that cannot be copied.
    """
    optimizers.check(original)
    config = original.get_config()
    rate = schedule or private_apis.learning_rate(original)
    if not isinstance(rate, keras.Variable):
        config["learning_rate"] = rate
    try:
        copy = type(original).from_config(config)
    except Exception as error:
        # `get_config` and `__init__` are anybody's code.
        raise BadInput(
            f"{type(original).__name__} cannot be copied ({type(error).__name__}: {error}); its get_config() should "
            "return the arguments of its __init__"
        ) from error
    pairs = list(zip(model.trainable_variables, trained.trainable_variables, strict=True))
    undecayed = [copy_of for own, copy_of in pairs if not private_apis.is_decayed(original, own)]
    if undecayed:
        copy.exclude_from_weight_decay(var_list=undecayed)
    copy.build(trained.trainable_variables)
    if original.built:
        transfer(original, copy)
    return copy


def transfer(source: keras.optimizers.Optimizer, target: keras.optimizers.Optimizer) -> None:
    """Copies the state (iterations, moments), where both were built for variables of the same shapes."""
    pairs = [_state(source), _state(target)]
    if len({tuple(tuple(each.shape) for each in variables) for variables in pairs}) == 1:
        for own, other in zip(*pairs, strict=True):
            other.assign(array(own))


def _state(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    rate = private_apis.learning_rate(optimizer)
    return [variable for variable in optimizer.variables if variable is not rate]
