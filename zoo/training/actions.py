"""What the outer loop does: log if due, evaluate if due, save if due, stop if asked, train."""

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from zoo import errors, piecewise
from zoo import workdir as folders
from zoo.engine import added_losses, checkpoints, health
from zoo.engine.scalars import means
from zoo.engine.state import array, averaged
from zoo.errors import BadInput, NonFinite
from zoo.metrics import evaluation_report
from zoo.metrics.decisions import Decision
from zoo.piecewise import Piece
from zoo.training import diagnosis, experiment_check, test_predictions
from zoo.training.context import RunContext
from zoo.training.plateau import lowered
from zoo.training.run_state import LogWindow, RunState
from zoo.training.signals import Interrupt, Request
from zoo.training.weights import exchanged


def log_if_due(context: RunContext, state: RunState) -> None:
    """Reports the means since the last log, every --log_every steps and at the end."""
    due = _is_multiple(state.step, context.config.log_every) or context.is_done(state)
    if not state.step or state.done["log"] == state.step or not due:
        return
    metrics = with_loss(context, state.window.metrics())
    if context.anchor_every:
        metrics |= {"rollbacks": state.left_out.rollbacks, "left_out_batches": len(state.left_out.batches)}
    metrics |= {name: piecewise.value(each, state.step - 1, 0.0) for name, each in context.pieces(state).items()}
    metrics["parameter_norm"] = context.reporter.writer.state(state.step)
    metrics["examples_per_second"] = context.clock.rate()
    state.window = LogWindow()
    state.done["log"] = state.step
    _report(context, state, "train", metrics)


def evaluate_if_due(context: RunContext, state: RunState) -> None:
    """Evaluates the validation sets, every --eval_every steps and at the end; stops early without improvement."""
    due = _is_multiple(state.step, context.eval_every) or context.is_done(state)
    if not state.step or state.done["eval"] == state.step or not due:
        return
    if context.experiment.evals:
        with averaged_weights(context):
            for name, batches in context.experiment.evals.items():
                _report(context, state, name, evaluate(context, state, name, batches))
        if _keeps_best(context) or context.config.patience:
            state.best.update(state.step, _metric_of(context, state), context.config.larger_is_better)
        if _is_multiple(state.step, context.eval_every):
            _extend_curve(context, state)
        # Not at the end of a run between two evaluations, or a longer run would have another rate from there on.
        if context.config.plateau_patience and _is_multiple(state.step, context.eval_every):
            _lower_rate_on_plateau(context, state)
    state.done["eval"] = state.step
    if context.is_out_of_patience(state):
        # Before the checkpoint that remembers it, or a resumed run would log it once more.
        log_if_due(context, state)
        _tell_early_stop(context, state)


def histograms_if_due(context: RunContext, state: RunState) -> None:
    """Writes the distributions of weights and gradients, every --histograms steps."""
    if state.step and state.done["histograms"] != state.step and _is_multiple(state.step, context.config.histograms):
        context.reporter.writer.histograms(state.step, state.left_out.batch(state.step))
        state.done["histograms"] = state.step


def save_if_due(context: RunContext, state: RunState) -> None:
    """Saves a checkpoint every --checkpoint_every steps, where the metric is the best so far, and at the end.

    A run that may go back saves its start, too.
    """
    due = _is_multiple(state.step, context.config.checkpoint_every)
    due = due or state.best.step == state.step or context.is_done(state)
    if (state.step and due) or context.is_anchor(state.step):
        save(context, state)


def save(context: RunContext, state: RunState) -> None:
    """Saves a checkpoint of this step, unless there is one; no worker goes on before it is on the disk."""
    if state.saved_step != state.step:
        write_checkpoint(context, state)
        context.workers.wait()
        state.saved_step = state.step


def write_checkpoint(context: RunContext, state: RunState) -> None:
    """Writes a checkpoint of this step where this is the process that writes files; needs no other worker."""
    variables = context.engine.state()
    health.check_state(state.step, variables, state.saved_step)
    if context.is_anchor(state.step):
        state.left_out.anchor = state.step
    state.is_whole = False
    if context.is_chief:
        context.reporter.writer.flush()
        checkpoints.save(context.checkpoints, state.step, variables, state.record(), context.run_id)
        folders.remember_save(context.workdir)
        also = {state.best.step, state.left_out.anchor}
        for line in checkpoints.prune(context.checkpoints, state.step, context.config.keep, also):
            context.reporter.tell_once(state.step, f"checkpoint {line}")
    state.is_whole = True


def agree(context: RunContext, state: RunState, interrupt: Interrupt) -> Request:
    """What signals asked of any worker, and how many steps the next call takes: as many as the first worker's pace."""
    signal, wants_save, interrupt.wants_save = interrupt.signal, interrupt.wants_save, False
    steps = min(context.steps_until_due(state), context.pace.steps)
    rows = context.workers.gather([signal, wants_save, steps])  # [workers, 3]
    signalled = next((place for place, number in enumerate(rows[:, 0]) if number), None)
    by = "" if signalled is None else context.workers.name(signalled)
    number = 0 if signalled is None else int(rows[signalled, 0])
    return Request(number, by, bool(rows[:, 1].any()), int(rows[0, 2]))


def answer_signals(context: RunContext, state: RunState, request: Request) -> None:
    """Saves where a signal asked for it, and ends the run unless it shall go on.

    Raises:
        Stopped: after SIGTERM, SIGHUP or Ctrl-C, on all workers at the same step.
    """
    if request.wants_save:
        save(context, state)
        context.reporter.tell(state.step, f"SIGUSR1: saved at step {state.step:,}; the run goes on")
    if request.signal:
        save(context, state)
        context.workers.ends_alike = True
        raise request.stopped(state.step)


def set_controls(context: RunContext, pieces: Mapping[str, Sequence[Piece]], step: int) -> None:
    """Sets the learning rate's factor and the weight decay of the steps from this one on."""
    for name, each in pieces.items():
        context.engine.controls[name].assign(piecewise.value(each, step, each[0].value))


def train(context: RunContext, state: RunState, steps: int) -> None:
    """One call of the engine of as many steps."""
    engine, batches, step = context.engine, context.experiment.train, state.step
    set_controls(context, context.pieces(state), step)
    batch, started = state.left_out.batch(step), time.perf_counter()
    with context.reporter.writer.profiled(step), context.clock:
        state.is_whole = False
        scalars = engine.train(batches, batch, steps)
    _tell_notes(context, state)
    context.pace.update(steps, time.perf_counter() - started)
    context.clock.examples += batches.examples_in(batch, steps)
    state.window.add(scalars, steps)
    for line in health.skipped(step, scalars):
        context.reporter.tell(step, line)
    health.check(step, scalars, state.saved_step)
    state.step += steps
    state.is_whole = True
    rate = context.clock.examples / max(context.clock.seconds, 1e-9)
    context.reporter.progress.advance(steps, with_loss(context, means(scalars))["loss"], rate)


def evaluate(
    context: RunContext,
    state: RunState,
    name: str,
    batches: Any,
    final: bool = False,
    rule: Decision | None = None,
) -> dict[str, float]:
    """Metrics of one data set with the model's present weights.

    Args:
        context: the run.
        state: where it is.
        name: name of the data set.
        batches: its batches.
        final: whether the metrics go to result.json, with intervals.
        rule: whose decisions are measured, too.

    Raises:
        NonFinite: a metric is infinite or not a number.
    """
    metrics, outputs = context.engine.evaluate_with_outputs(batches)
    _tell_notes(context, state)
    metrics = with_loss(context, metrics)
    if context.experiment.compute_metrics is not None:
        metrics |= experiment_check.metrics(context.experiment, metrics, outputs, batches.columns, final)
    if rule is not None:
        metrics |= evaluation_report.of_decisions(
            rule, outputs["logits"], batches.columns, context.experiment.model_info["classes"]
        )
    if final and context.is_chief and context.experiment.predictions is not None:
        table = context.experiment.predictions(outputs, batches.columns)
        test_predictions.write(context.workdir / name / test_predictions.NAME, table)
    if final or (name in context.experiment.evals and state.done["eval"] != state.step):
        number, last = state.step // context.eval_every, final or context.is_done(state)
        context.reporter.writer.look(name, state.step, number, outputs, batches.columns, last)
    wrong = [metric for metric, value in metrics.items() if not math.isfinite(value)]
    if wrong:
        raise NonFinite(f"{name}/{wrong[0]} not finite at step {state.step}; look for infinite values in that data")
    return metrics


def with_loss(context: RunContext, metrics: dict[str, float]) -> dict[str, float]:
    """The metrics with `loss` first: as the experiment reports it, or the sum of the objective's and layers' losses.

    A term that is called `loss` stays unless the experiment says otherwise.
    """
    reported = context.experiment.reported_loss
    if reported is not None:
        return {"loss": reported(metrics), **{name: value for name, value in metrics.items() if name != "loss"}}
    names = (*context.experiment.objective, *added_losses.TERMS)
    present = [metrics[name] for name in names if name in metrics]
    if "loss" in metrics or not present:
        return metrics
    return {"loss": sum(present), **metrics}


def tagged(dataset: str, metrics: dict[str, float]) -> dict[str, float]:
    """The metrics by `DATASET/METRIC`."""
    return {f"{dataset}/{name}": value for name, value in metrics.items()}


def _report(context: RunContext, state: RunState, dataset: str, metrics: dict[str, float]) -> None:
    state.metrics |= tagged(dataset, metrics)
    context.reporter.metrics(state.step, dataset, metrics)
    if context.experiment.on_log is not None and context.is_chief:
        writer = context.reporter.writer.own(dataset, state.step)
        if context.experiment.on_log(state.step, tagged(dataset, metrics), writer):
            _stop(context, state)


def _stop(context: RunContext, state: RunState) -> None:
    if not context.workers.is_alone:
        raise BadInput("on_log ends the run, of which the other workers know nothing: expected that of one worker only")
    state.is_stopped = True


def _tell_notes(context: RunContext, state: RunState) -> None:
    for line in context.engine.notes:
        context.reporter.tell_once(state.step, line)


def _is_multiple(step: int, every: int) -> bool:
    return bool(every) and step % every == 0


def _keeps_best(context: RunContext) -> bool:
    return bool(context.config.checkpoint_every or context.config.exports_best)


def _metric_of(context: RunContext, state: RunState) -> float:
    """The metric that tells which weights are best, of the first validation set."""
    dataset, metric = next(iter(context.experiment.evals)), context.config.metric
    names = [tag.partition("/")[2] for tag in state.metrics if tag.startswith(f"{dataset}/")]
    if metric not in names:
        raise BadInput(f"--metric is {metric!r}: {errors.nearest(metric, names)}")
    return state.metrics[f"{dataset}/{metric}"]


def averaged_weights(context: RunContext):
    """The weights that an export would have, for a while; no copies where no averages are kept."""
    if not context.engine.task.averages:
        return contextlib.nullcontext()
    return exchanged(context.engine, averaged(context.engine.state()))


def _lower_rate_on_plateau(context: RunContext, state: RunState) -> None:
    """Lowers the learning rate of the next steps where the metric has stopped improving."""
    config, plateau, level = context.config, state.plateau, context.engine.rate_level
    if not plateau.is_over(_metric_of(context, state), config):
        return
    before = float(array(level))
    after = lowered(before, config)
    if after == before:
        return
    level.assign(after)
    plateau.restart(config)
    context.reporter.tell(
        state.step,
        f"from step {state.step:,} on {after:g} times the learning rate of the schedule: {config.metric} has not "
        f"become better than {plateau.value:.4g} for {config.plateau_patience} "
        f"evaluation{'s' if config.plateau_patience > 1 else ''}",
    )


def _extend_curve(context: RunContext, state: RunState) -> None:
    """Remembers the losses of training and of the first validation set."""
    metrics = with_loss(context, state.window.metrics()) if state.window.values else {}
    train = metrics.get("loss", state.metrics.get("train/loss"))
    validation = state.metrics.get(f"{next(iter(context.experiment.evals))}/loss")
    if train is not None and validation is not None:
        state.curve = diagnosis.added(state.curve, diagnosis.Point(state.step, train, validation))


def _tell_early_stop(context: RunContext, state: RunState) -> None:
    if state.step == context.total_steps:
        return
    best, config = state.best, context.config
    context.reporter.tell(
        state.step,
        f"stopped at step {state.step:,}: {config.metric} has not become better than {best.value:.4g} "
        f"(step {best.step:,}) for {config.patience} evaluations",
    )
