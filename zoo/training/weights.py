"""Weights of a run: restored at its start, exchanged for a while, exported at its end."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from zoo import files
from zoo import workdir as folders
from zoo.engine import checkpoints, optimizers
from zoo.engine.engine import Engine
from zoo.engine.state import averaged, named
from zoo.errors import BadInput
from zoo.metrics.decisions import Decision
from zoo.training import init_from, model_file
from zoo.training.context import RunContext
from zoo.training.run_state import RunState


def restore(context: RunContext, checkpoint: checkpoints.Checkpoint | None, problems: list[str]) -> RunState:
    """Loads this run's newest good checkpoint, else the weights of --init_from, else leaves the fresh ones.

    Args:
        context: the run.
        checkpoint: from `newest_checkpoint`.
        problems: damaged and left-over checkpoints, to be reported.

    Returns:
        The state to go on from.
    """
    for line in context.experiment.notes:
        context.reporter.progress.say(line)
    state = RunState() if checkpoint is None else RunState.from_record(checkpoint.step, checkpoint.record)
    problem = model_file.problem(context.experiment.model)
    if problem is not None:
        context.reporter.progress.say(f"{problem}; at the end its weights are written to {folders.WEIGHTS}")
    for line in problems:
        context.reporter.tell(state.step, f"checkpoint {line}")
    if checkpoint is not None:
        context.engine.load(checkpoint.state)
        context.reporter.tell(state.step, f"resumed at step {state.step:,} of {context.total_steps:,}")
    elif context.config.init_from:
        origin = init_from.load(context.engine, context.config.init_from, context.experiment)
        context.reporter.tell(state.step, origin)
    else:
        context.reporter.progress.say(optimizers.describe(context.engine.model, context.engine.groups))
    return state


@contextlib.contextmanager
def exchanged(engine: Engine, weights: dict[str, Any]) -> Iterator[None]:
    """Puts other weights (averaged ones, the best ones) into the model for a while."""
    own = engine.state()
    engine.load_model(weights)
    try:
        yield
    finally:
        engine.load_model(own)


def exported(context: RunContext, state: RunState) -> dict[str, Any]:
    """The weights that are exported: the best or the last ones, averaged where --ema says so."""
    # The present state needs no file, which another worker might still be writing.
    if context.config.exports_best and state.best.step != state.step:
        best, _ = checkpoints.restore(context.checkpoints, int(state.best.step), context.run_id)
        return averaged(best.state)
    return averaged(context.engine.state())


def export(context: RunContext, rule: Decision | None = None) -> None:
    """Writes the model and what `zoo predict` must know of it, each in one stroke.

    A model that Keras cannot save, or could not load again, leaves its weights in a file of their own.

    Args:
        context: the run.
        rule: how classes are decided; None: the most probable one.

    Raises:
        BadInput: a file cannot be written.
    """
    path = context.workdir / folders.MODEL
    aside = context.workdir / f".partial-{os.getpid()}.keras"
    problem = model_file.problem(context.experiment.model)
    try:
        context.experiment.model.save(aside)
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise BadInput(f"cannot write {path}: {error}") from error
    except Exception as error:
        # A custom layer's own code may fail in any way, and the trained weights must not be lost by it.
        aside.unlink(missing_ok=True)
        problem = problem or f"the model cannot be saved as model.keras ({type(error).__name__}: {error})"
    if problem is not None:
        write(context.workdir / folders.WEIGHTS, named(context.experiment.model))
        context.reporter.progress.say(f"{problem}: the weights are in {context.workdir / folders.WEIGHTS}")
    for name, text in context.experiment.files.items():
        files.write(context.workdir / name, text)
    model_info = dict(context.experiment.model_info) | ({} if rule is None else {"decision": rule.as_json()})
    files.write(context.workdir / folders.ABOUT, json.dumps(model_info, indent=1) + "\n")


def write(path: Path, weights: Mapping[str, np.ndarray]) -> None:
    """Writes weights by the names of `zoo.engine.state.named`, for `--init_from`.

    Raises:
        BadInput: the file cannot be written; the old file stays.
    """
    files.write(path, save({name: np.asarray(value, order="C") for name, value in weights.items()}))
