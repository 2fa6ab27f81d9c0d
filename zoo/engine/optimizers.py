"""Keras optimizers: made by name, checked against the engine's promises, assigned to groups of variables."""

import difflib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from zoo.engine import regularization
from zoo.engine.schedules import Schedule
from zoo.engine.state import array
from zoo.errors import BadInput


class Group(NamedTuple):
    """Variables that share an optimizer, and so a learning rate and a weight decay."""

    name: str
    variables: list[keras.Variable]
    optimizer: keras.optimizers.Optimizer


_SGD = keras.optimizers.SGD
_MAKERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "sgd": _SGD,
    "momentum": lambda **options: _SGD(momentum=0.9, **options),
    "nesterov": lambda **options: _SGD(momentum=0.9, nesterov=True, **options),
    "rmsprop": keras.optimizers.RMSprop,
    "adagrad": keras.optimizers.Adagrad,
    "adadelta": keras.optimizers.Adadelta,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "adamax": keras.optimizers.Adamax,
    "nadam": keras.optimizers.Nadam,
    "adafactor": keras.optimizers.Adafactor,
    "lamb": keras.optimizers.Lamb,
    "lion": keras.optimizers.Lion,
    "ftrl": keras.optimizers.Ftrl,
    "muon": lambda weight_decay=None, **options: keras.optimizers.Muon(
        weight_decay=weight_decay, adam_weight_decay=weight_decay, **options
    ),
    # Follows the steps that `second_order` makes; their weight decay is part of the loss.
    "newton_cg": lambda weight_decay=None, **options: _SGD(**options),
    "lbfgs": lambda weight_decay=None, **options: _SGD(**options),
}
NAMES = tuple(_MAKERS)

# These are made for decoupled weight decay (Loshchilov and Hutter, 2019); 0.01 is PyTorch's default for AdamW.
_DECAY_DEFAULTS = {"adamw": 0.01, "lion": 0.01, "lamb": 0.01, "muon": 0.01}

_REFUSED = {
    "clipnorm": "clips each replica's gradient before the reduction; use --clip_norm",
    "clipvalue": "clips each replica's gradient before the reduction; use --clip_norm",
    "global_clipnorm": "clips each replica's gradient before the reduction; use --clip_norm",
    "gradient_accumulation_steps": "fails under a strategy and drops the last window; use --accumulate",
    "use_ema": "overwrites weights inside the optimizer, which fails under a strategy; use --ema",
    "loss_scale_factor": "scales the gradients on one replica only; use --precision=float16, which does it on all",
}


def make(name: str, schedule: Schedule, weight_decay: float | None) -> keras.optimizers.Optimizer:
    """Makes a Keras optimizer.

    Args:
        name: one of `NAMES`.
        schedule: learning-rate schedule.
        weight_decay: decoupled weight decay, times the learning rate; None for the optimizer's default.

    Raises:
        BadInput: an unknown name; suggests similar ones.
    """
    if name == "schedule_free_adamw":
        raise BadInput(
            "--optimizer=schedule_free_adamw trains at another point than it should be evaluated at, and Keras leaves "
            "the model at the first; use --optimizer=adamw --ema=0.999"
        )
    if name not in _MAKERS:
        similar = difflib.get_close_matches(name, NAMES, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(similar)}" if similar else f"one of {', '.join(NAMES)}"
        raise BadInput(f"--optimizer is {name!r}: {hint}?")
    decay = _DECAY_DEFAULTS.get(name) if weight_decay is None else weight_decay
    # No decay is 0 for Keras' AdamW and Muon, None for the others.
    return _MAKERS[name](learning_rate=schedule, weight_decay=decay or (0.0 if name in ("adamw", "muon") else None))


def by_layer(
    model: keras.Model,
    schedule: Schedule,
    make_one: Callable[[Schedule], keras.optimizers.Optimizer],
    *,
    decay: float = 1.0,
    unfreeze_every: int = 0,
) -> keras.optimizers.Optimizer | list[Group]:
    """One optimizer for all layers or one for each: discriminative fine-tuning and gradual unfreezing.

    Howard and Ruder, "Universal language model fine-tuning for text classification" (ULMFiT), 2018, sections 3.2, 3.3.

    Args:
        model: the model; its layers with weights count from the top, the layer nearest to the output.
        schedule: learning-rate schedule of the top layer.
        make_one: makes an optimizer from a schedule.
        decay: factor of the rate from each layer to the next lower one; 1 / 2.6 in the paper.
        unfreeze_every: steps after which one more layer starts to learn, from the top; 0: all from the start. A frozen
            layer has a rate of 0, so its optimizer's averages are warm when it starts.
    """
    if decay == 1.0 and not unfreeze_every:
        return make_one(schedule)
    layers = _layers(model)
    optimizer_groups = []
    for index, layer in enumerate(layers):
        depth = len(layers) - 1 - index
        optimizer = make_one(schedule.scaled(decay**depth, unfreeze_every * depth))
        name = re.sub(r"_\d+$", "", layer.name)
        optimizer_groups.append(Group(f"{index:02d}_{name}", list(layer.trainable_variables), optimizer))
    return optimizer_groups


def _layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The trainable layers from input to output; an inner model is replaced by its layers."""
    layers = []
    for layer in model.layers:
        inner = _layers(layer) if isinstance(layer, keras.Model) else [layer]
        layers += [one for one in inner if one.trainable_variables]
    return layers


def groups(model: keras.Model, optimizer: keras.optimizers.Optimizer | Sequence[Group]) -> list[Group]:
    """Puts every trainable variable into exactly one group and builds the optimizers, inside the strategy's scope.

    Args:
        model: the model to train.
        optimizer: one optimizer for all trainable variables, or the experiment's groups.

    Raises:
        BadInput: an option of Keras that the engine replaces (see `check`), or a variable in no group or in two.
    """
    if isinstance(optimizer, keras.optimizers.Optimizer):
        optimizer = [Group("all", list(model.trainable_variables), optimizer)]
    _check_partition(model, optimizer)
    exempt = {id(variable) for variable in model.trainable_variables} - {
        id(variable) for variable in regularization.decayed(model)
    }
    for group in optimizer:
        check(group.optimizer)
        _check_precision(group)
        if not group.optimizer.built:
            undecayed = [variable for variable in group.variables if id(variable) in exempt]
            if undecayed:
                group.optimizer.exclude_from_weight_decay(var_list=undecayed)
            # Now, as a build on first use would fail in a trace and come too late for a restore.
            group.optimizer.build(group.variables)
    return list(optimizer)


def check(optimizer: keras.optimizers.Optimizer) -> None:
    """Refuses options that Keras gets wrong under a strategy and the engine has its own flag for.

    Raises:
        BadInput: names the option, the reason and the flag to use.
    """
    if isinstance(optimizer, keras.optimizers.ScheduleFreeAdamW):
        raise BadInput("ScheduleFreeAdamW leaves the model at another point than it should be evaluated at; use --ema")
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise BadInput(
            "LossScaleOptimizer checks one replica's gradients only; use its inner optimizer, as the engine scales a "
            "float16 model's loss"
        )
    for option, reason in _REFUSED.items():
        if getattr(optimizer, option, None):
            raise BadInput(f"{type(optimizer).__name__}({option}=...) {reason}")


def describe(model: keras.Model, groups: Sequence[Group]) -> str:
    """A table of the groups: optimizer, weight decay, number of variables and parameters."""
    matrices = {id(variable) for variable in regularization.decayed(model)}
    rows = [("group", "optimizer", "weight decay", "variables", "parameters")]
    for group in groups:
        decays = _weight_decay(group.optimizer)
        for shrunk in (True, False):
            chosen = [variable for variable in group.variables if (id(variable) in matrices) == shrunk]
            if chosen:
                size = sum(int(keras.ops.size(variable)) for variable in chosen)
                part = "matrices" if shrunk else "biases, norms"
                decay = f"{decays if shrunk else 0.0:g}"
                rows.append(
                    (f"{group.name}: {part}", type(group.optimizer).__name__, decay, f"{len(chosen)}", f"{size:,}")
                )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _weight_decay(optimizer: keras.optimizers.Optimizer) -> float:
    decay = getattr(optimizer, "weight_decay", None)
    return float(array(decay)) if isinstance(decay, tf.Variable) else decay or 0.0


def _check_precision(group: Group) -> None:
    """Refuses Adam for bfloat16 weights: Keras computes 1 - 0.999 in their type, which is 0, so they never move."""
    coarse = [variable for variable in group.variables if variable.dtype == "bfloat16"]
    beta = getattr(group.optimizer, "beta_2", None)
    if coarse and isinstance(beta, float) and float(keras.ops.cast(beta, "bfloat16")) == 1.0:
        raise BadInput(
            f"{coarse[0].path} is bfloat16, in which {type(group.optimizer).__name__}'s decay of {beta:g} rounds to 1 "
            "and changes no weight; use float32 weights with --precision=bfloat16, or --optimizer=momentum"
        )


def _check_partition(model: keras.Model, groups: Sequence[Group]) -> None:
    grouped = [id(variable) for group in groups for variable in group.variables]
    missing = [variable.path for variable in model.trainable_variables if id(variable) not in grouped]
    if missing:
        raise BadInput(f"no optimizer group has the variables {', '.join(missing)}: freeze them or give them one")
    if len(set(grouped)) != len(grouped):
        raise BadInput("a variable is in two optimizer groups: expected each in exactly one")
