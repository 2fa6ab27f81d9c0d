"""The outer loop: from a config to a trained model in a folder, one function read top to bottom.

It is not called run.py, because `zoo.run` is the function.
"""

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from zoo import config as configs
from zoo import files
from zoo import workdir as folders
from zoo.engine import devices, optimizers, regularization, schedules
from zoo.engine.engine import Engine
from zoo.engine.state import plain_path
from zoo.errors import BadInput, ZooError
from zoo.experiment import Experiment
from zoo.training import signals
from zoo.training.trainer import Training


def run(build: Callable[[Any], Experiment], config: configs.Config, workdir: str | Path) -> dict[str, float]:
    """Trains what `build(config)` returns, in a folder; goes on where an earlier run of the same config was stopped.

    Order of initialisation: devices, seed, model, optimizer's slots, checkpoint (this run's, else `init_from`, else
    fresh), first trace.

    Args:
        build: called inside the strategy's scope; makes the model, the task and the data.
        config: of the run; the run is a function of it.
        workdir: folder of checkpoints, TensorBoard's files, result.json and model.keras.

    Returns:
        The final metrics: `step`, `train/loss`, `eval/loss`, `test/...`.

    Raises:
        ZooError: see `zoo.errors`; each has one line of text and an exit code.
    """
    workdir = files.absolute(workdir)
    strategy = devices.strategy(config.strategy, config.cpu_devices)
    chief = devices.is_chief(strategy)
    with contextlib.ExitStack() as stack:
        if chief:
            stack.enter_context(folders.owned(workdir))
        asked = stack.enter_context(signals.watched() if chief else contextlib.nullcontext(signals.Interrupt()))
        stack.enter_context(devices.precision(config.precision))
        with strategy.scope():
            keras.utils.set_random_seed(config.seed)
            experiment = build(config)
        total = total_steps(config, experiment)
        engine = make_engine(strategy, config, experiment, total)
        _check_names(config, experiment)
        identity = _identity(config, experiment, total)
        begun = chief and folders.compare(workdir, config, identity)
        training = Training(config, experiment, engine, workdir, total, chief)
        stack.callback(training.close)
        training.restore()
        if chief:
            # Only now: a run that is refused above has written nothing.
            folders.claim(workdir, config, identity)
            training.open_history(begun)
        try:
            while not training.done:
                training.advance(asked)
            return training.finish()
        except ZooError as error:
            training.tell_end(str(error))
            raise


def total_steps(config: configs.Config, experiment: Experiment) -> int:
    """The steps of a run; epochs become steps here, once."""
    # Rounded first: 0.07 epochs of 100 steps are 7, not 7.000000000000001 and so 8.
    return config.steps or math.ceil(round(config.epochs * experiment.train.steps_per_epoch, 6))


def make_engine(strategy, config: configs.Config, experiment: Experiment, total: int) -> Engine:
    """The engine that a config asks for, for a built experiment."""
    with strategy.scope():
        optimizer = experiment.optimizer
        if optimizer is None:
            optimizer = optimizers.by_layer(
                experiment.model,
                schedule(config, total),
                lambda rate: optimizers.make(config.optimizer, rate, config.weight_decay),
                decay=config.layer_decay,
                unfreeze_every=config.unfreeze_every,
            )
        groups = optimizers.groups(experiment.model, optimizer)
    return Engine(
        strategy,
        experiment.model,
        experiment.forward,
        experiment.objective,
        groups,
        penalty=regularization.penalty(experiment.model, config.l2),
        seed=config.seed,
        accumulate=config.accumulate,
        clip_norm=config.clip_norm,
        average_decay=config.ema,
        compile=(experiment.compile if config.compile == "auto" else config.compile),
        cores=devices.useful_cores(config.batch_size // config.accumulate),
        steps_per_loop=config.steps_per_loop,
    )


def schedule(config: configs.Config, total: int) -> schedules.Schedule:
    """The learning rate that a config asks for."""
    decay_steps = config.decay_steps or total
    return schedules.make(
        config.schedule,
        config.learning_rate,
        decay_steps=decay_steps,
        warmup_steps=config.warmup_steps or round(config.warmup_fraction * decay_steps),
        final_fraction=config.final_fraction,
        decay_rate=config.decay_rate,
        decay_every=config.decay_every,
        power=config.power,
    )


def _identity(config: configs.Config, experiment: Experiment, total: int) -> dict[str, Any]:
    weights = experiment.model.weights
    shapes = [f"{plain_path(weight).rpartition('/')[2]}{tuple(weight.shape)}" for weight in weights]
    identity = {"model": " ".join(shapes), "training data": experiment.train.fingerprint()}
    if config.schedule not in ("constant", "inverse_sqrt") or (config.warmup_fraction and not config.warmup_steps):
        identity["schedule's length"] = config.decay_steps or total
    return identity


def _check_names(config: configs.Config, experiment: Experiment) -> None:
    """Every data set needs a name of its own: it becomes a folder and the first part of a tag."""
    names = ["train", *experiment.evals, *experiment.tests]
    if len(set(names)) < len(names) or any("/" in name or not name for name in names):
        raise BadInput(f"the data sets are called {', '.join(names)}: expected names of their own, without a slash")
    if (config.export == "best" or config.patience) and not experiment.evals:
        asked = f"--patience={config.patience}" if config.patience else "--export=best"
        raise BadInput(f"{asked}: the experiment has no data set to choose the best weights by")
