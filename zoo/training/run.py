"""The outer loop: from a config to a trained model in a folder, one function read top to bottom."""

import contextlib
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from zoo import config as configs
from zoo import files
from zoo import workdir as folders
from zoo.engine import (
    checkpoints,
    controls,
    devices,
    optimizers,
    rate_level,
    regularization,
    schedules,
    second_order,
    sharpness,
    skipping,
    updates,
)
from zoo.engine.engine import Engine
from zoo.engine.lbfgs import Lbfgs
from zoo.engine.newton_cg import NewtonCg
from zoo.engine.state import plain_path
from zoo.engine.workers import Workers
from zoo.errors import BadInput
from zoo.experiment import Experiment
from zoo.training import (
    actions,
    controller,
    controller_choices,
    cross_validation,
    experiment_check,
    find_lr,
    memory_limits,
    recorded_slices,
    rescue,
    result,
    rollback,
    several_seeds,
    signals,
    weights,
)
from zoo.training.context import Pace, Reporter, RunContext
from zoo.training.progress import Clock, Progress
from zoo.training.run_state import RunState
from zoo.training.tensorboard_writer import TensorBoardWriter


def run(build: Callable[[Any], Experiment], config: configs.Config, workdir: str | Path) -> dict[str, float]:
    """Trains what `build(config)` returns, in a folder; goes on where an earlier run of the same config was stopped.

    Order of initialisation: devices, seed, model, optimizer's slots, checkpoint (this run's, else `init_from`, else
    fresh), first trace.

    Args:
        build: makes the model, the task and the data; called inside the strategy's scope.
        config: config of the run, which is a function of it.
        workdir: folder of checkpoints, TensorBoard's files, result.json and model.keras.

    Returns:
        The final metrics: `step`, `train/loss`, `eval/loss`, `test/...`; with `--folds` those of
        `cross_validation.run`, with `--seeds` those of `several_seeds.run`; with `--find_lr` only a `learning_rate`.

    Raises:
        ZooError: one line of text with an exit code; the kinds are in `zoo.errors`.
    """
    if config.find_lr:
        return find_lr.run(build, config, workdir, make_engine)
    config = cross_validation.with_folds(config)
    if several_seeds.is_asked(config):
        return several_seeds.run(functools.partial(run, build), config, workdir)
    if cross_validation.is_asked(config):
        return cross_validation.run(functools.partial(run, build), config, workdir)
    workdir = files.absolute(workdir)
    # Before the signals are watched: with several workers TensorFlow takes SIGTERM for itself here.
    strategy = devices.strategy(config.strategy, config.cpu_devices, config.worker_timeout)
    is_chief, workers = devices.is_chief(strategy), devices.workers(strategy)
    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(signals.watched())
        stack.enter_context(workers.ending_together())
        stack.enter_context(interrupt.ends())  # Once more inside, so that the other workers are told of a stop.
        workers.compare(_flags(config))
        if is_chief:
            stack.enter_context(folders.owned(workdir))
        stack.enter_context(devices.precision(config.precision))
        config = folders.as_recorded(workdir, config)
        config, other_slices = recorded_slices.with_recorded(workdir, config, strategy.num_replicas_in_sync)
        with strategy.scope(), memory_limits.checked_weights():
            keras.utils.set_random_seed(config.seed)
            experiment = experiment_check.built(build, config)
        config = experiment.config or config
        memory_limits.check_batch(config, experiment.train)
        total = total_steps(config, experiment)
        engine = make_engine(strategy, config, experiment, total)
        engine.notes += [other_slices] if other_slices else []
        config = recorded_slices.recorded(config, engine.cut)
        _check_names(config, experiment)
        identity = _identity(config, experiment, total)
        is_resumed = is_chief and folders.compare(workdir, config, identity)
        run_id = folders.run_id(workdir, config, identity)
        checkpoint, problems = _newest_checkpoint(config, workdir, run_id, total, is_chief)
        context = _context(config, experiment, engine, workers, workdir, run_id, total, is_chief, checkpoint)
        stack.callback(context.reporter.close)
        state = weights.restore(context, checkpoint, problems)
        rollback.begin(context, state)
        control = controller.Controller(context) if config.controller else None
        workers.compare({**identity, "--workdir's newest checkpoint": state.step, "--workdir's run.json": run_id})
        if is_chief:
            # Only now: a run that is refused above has written nothing.
            folders.claim(workdir, config, identity)
            context.reporter.writer.open(is_resumed, state.step)
        interrupt.saved_step, interrupt.saves_first = lambda: state.saved_step, True
        try:
            with workers.explained():
                _loop(context, state, interrupt, control)
                # The last step is saved: what follows can be done again.
                interrupt.nothing_to_save()
                return result.finish(context, state)
        except Exception as error:
            rescue.rescue(context, state, error)
            raise


def _loop(
    context: RunContext, state: RunState, interrupt: signals.Interrupt, control: controller.Controller | None
) -> None:
    """All steps that are left."""
    while True:
        with rollback.guarded(context, state):
            # What is due at this step comes first: a resumed run may still have it before it.
            actions.log_if_due(context, state)
            actions.evaluate_if_due(context, state)
            actions.histograms_if_due(context, state)
            if control is not None:
                # Before the checkpoint that remembers it.
                control.decide_if_due(state, interrupt)
            actions.save_if_due(context, state)
        request = actions.agree(context, state, interrupt)
        actions.answer_signals(context, state, request)
        if context.is_done(state):
            return
        with rollback.guarded(context, state):
            actions.train(context, state, request.steps)


def total_steps(config: configs.Config, experiment: Experiment) -> int:
    """The steps of a run; epochs become steps here, once."""
    config = experiment.config or config
    # Rounded first: 0.07 epochs of 100 steps are 7, not 7.000000000000001 and so 8.
    steps = config.steps or round(config.epochs * experiment.train.steps_per_epoch, 6)
    if not steps < 2**63:
        raise BadInput(f"--epochs is {config.epochs:g}: that is {steps:.3g} steps, more than 64 bits can count")
    return math.ceil(steps)


def make_engine(strategy, config: configs.Config, experiment: Experiment, total: int) -> Engine:
    """The engine that a config asks for, for a built experiment."""
    config = experiment.config or config
    controller.check(config, experiment)
    with strategy.scope():
        groups = optimizers.groups(experiment.model, _optimizer(config, experiment, total))
        sets_rate = config.plateau_patience or config.on_nonfinite == "rollback" or config.find_lr
        level = rate_level.attach(groups) if sets_rate else None
        # Both, whatever flags ask for: with other variables the compiler might round otherwise.
        sets_both = config.controller or config.rate_factors or config.weight_decays
        controlled = controls.attach(groups) if sets_both else {}
    new_layers = {*experiment.head, *experiment.reinitialize}
    start = regularization.start(strategy, experiment.model, config.l2_sp, new_layers)
    return Engine(
        strategy,
        experiment.model,
        experiment.forward,
        experiment.objective,
        groups,
        batch_losses=experiment.batch_losses,
        several=experiment.updates,
        penalty=regularization.penalty(experiment.model, config.l2 + _decay_in_the_loss(config), config.l1, start),
        start=start,
        seed=config.seed,
        accumulate=config.accumulate,
        sharpness=sharpness.make(config.sam, config.sam_radius),
        second_order=_second_order(strategy, config, experiment),
        clip_norm=config.clip_norm,
        average_decay=config.ema,
        average_start=math.floor(config.swa * total) if config.swa else None,
        gradient_noise=config.gradient_noise,
        level=level,
        controls=controlled,
        skips=skipping.make(strategy, config.on_nonfinite == "skip", config.skip_spikes),
        measures_all=config.on_nonfinite == "rollback",
        batch_norm_group=config.batch_norm_group,
        compile=(experiment.compile if config.compile == "auto" else config.compile),
        is_default=config.compile == "auto",
        cores=devices.useful_cores(config.batch_size // config.accumulate),
        exact=config.exact,
        slices=config.slices,
        steps_per_loop=config.steps_per_loop,
    )


def _optimizer(config: configs.Config, experiment: Experiment, total: int):
    """The experiment's optimizer or groups, or the config's."""
    if experiment.optimizer is not None:
        return experiment.optimizer
    rates = schedule(config, total)

    def make(rate: schedules.Schedule) -> keras.optimizers.Optimizer:
        return optimizers.make(config.optimizer, rate, config.weight_decay)

    if not experiment.updates:
        options = {"decay": config.layer_decay, "unfreeze_every": config.unfreeze_every}
        return optimizers.by_layer(experiment.model, rates, make, **options)
    if config.layer_decay != 1.0 or config.unfreeze_every:
        raise BadInput("--layer_decay and --unfreeze_every make groups by layer, and the updates have groups already")
    return updates.groups(experiment.updates, lambda times: make(rates.repeated(times)))


def _second_order(strategy, config: configs.Config, experiment: Experiment) -> NewtonCg | Lbfgs | None:
    """What makes the steps, where the config's optimizer is one of second order."""
    if config.optimizer not in configs.SECOND_ORDER or experiment.optimizer is not None:
        return None
    second_order.check(
        experiment.model,
        config.optimizer,
        {
            "several updates in a step": experiment.updates,
            "losses over the whole batch (batch_losses)": experiment.batch_losses,
            f"--sam={config.sam}": config.sam != "none",
            f"--l1={config.l1:g}": config.l1,
            f"--gradient_noise={config.gradient_noise:g}": config.gradient_noise,
            f"--precision={config.precision}": config.precision != "float32",
            f"--layer_decay={config.layer_decay:g}": config.layer_decay != 1.0,
            f"--unfreeze_every={config.unfreeze_every}": config.unfreeze_every,
        },
    )
    if config.optimizer == "lbfgs":
        return second_order.quasi_newton(strategy, experiment.model, config.lbfgs_pairs)
    return second_order.newton(strategy, config.newton_damping, config.cg_iterations, config.cg_tolerance)


def _decay_in_the_loss(config: configs.Config) -> float:
    """The factor of the sum of squares whose gradient is the weight decay, for steps that minimize it."""
    return (config.weight_decay or 0.0) / 2.0 if config.optimizer in configs.SECOND_ORDER else 0.0


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
        cooldown_fraction=config.cooldown_fraction,
        cycles=config.cycles,
        cycle_factor=config.cycle_factor,
    )


def _flags(config: configs.Config) -> dict[str, Any]:
    """The flags that must be the same on all workers: all, as those of logging, too, decide what is done together."""
    return {f"--{name}": value for name, value in configs.as_dict(config).items()}


def _identity(config: configs.Config, experiment: Experiment, total: int) -> dict[str, Any]:
    weights = experiment.model.weights
    shapes = [f"{plain_path(weight).rpartition('/')[2]}{tuple(weight.shape)}" for weight in weights]
    identity = {"model": " ".join(shapes), "training data": experiment.train.fingerprint()}
    if config.schedule not in ("constant", "inverse_sqrt") or (config.warmup_fraction and not config.warmup_steps):
        identity["schedule's length"] = config.decay_steps or total
    if config.swa or config.controller:
        identity["steps"] = total
    return identity


def _check_names(config: configs.Config, experiment: Experiment) -> None:
    """Every data set needs a name of its own: it becomes a folder and the first part of a tag."""
    names = ["train", *experiment.evals, *experiment.tests]
    if len(set(names)) < len(names) or any("/" in name or not name for name in names):
        raise BadInput(f"the data sets are called {', '.join(names)}: expected names of their own, without a slash")
    if (config.export == "best" or config.patience) and not experiment.evals:
        asked = f"--patience={config.patience}" if config.patience else "--export=best"
        raise BadInput(f"{asked}: the experiment has no data set to choose the best weights by")
    if config.plateau_patience and not experiment.evals:
        raise BadInput(f"--plateau_patience={config.plateau_patience}: the experiment has no data set to evaluate")


def _newest_checkpoint(
    config: configs.Config, workdir: Path, run_id: str, total: int, is_chief: bool
) -> tuple[checkpoints.Checkpoint | None, list[str]]:
    """This run's newest good checkpoint, and what is to be reported of the others."""
    folder = workdir / folders.CHECKPOINTS
    cleaned = checkpoints.clean(folder) if is_chief else []
    checkpoint, problems = checkpoints.restore(folder, run=run_id, unusable=RunState.problem)
    if checkpoint is not None and checkpoint.step > total:
        raise BadInput(f"--steps is {total}: this run has done {checkpoint.step} already; expected that or more")
    if checkpoint is not None and config.exports_best and _has_lost_its_best(checkpoint):
        raise BadInput("--export=best: this run has kept no best checkpoint so far; expected it from the first step on")
    if checkpoint is not None and config.on_nonfinite != "rollback" and _has_gone_back(checkpoint):
        raise BadInput(f"--on_nonfinite={config.on_nonfinite}: this run has gone back already; expected rollback")
    return checkpoint, cleaned + problems


def _has_lost_its_best(checkpoint: checkpoints.Checkpoint) -> bool:
    """Whether there were evaluations, and none of them was remembered as the best."""
    return bool(checkpoint.record["done"]["eval"]) and not checkpoint.record["best"]


def _has_gone_back(checkpoint: checkpoints.Checkpoint) -> bool:
    """Whether the run has left batches out and lowered its rate, which only a run that may go back goes on with."""
    return RunState.from_record(checkpoint.step, checkpoint.record).left_out.rollbacks > 0


def _context(
    config: configs.Config,
    experiment: Experiment,
    engine: Engine,
    workers: Workers,
    workdir: Path,
    run_id: str,
    total: int,
    is_chief: bool,
    checkpoint: checkpoints.Checkpoint | None,
) -> RunContext:
    progress = Progress(total, checkpoint.step if checkpoint else 0)
    reporter = Reporter(progress, TensorBoardWriter(config, experiment, engine, workdir))
    pace = Pace(config.steps_per_loop)
    planned, decisions = controller.pieces(config, engine), controller_choices.decision_steps(config, total)
    parts = (workers, workdir, run_id, total, is_chief, reporter, Clock(), pace, planned, decisions)
    return RunContext(config, experiment, engine, *parts)
