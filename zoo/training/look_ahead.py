"""Forks of a run: some steps with other learning rates, judged on the validation split, and back again.

A run is a function of its config and its step, so that a fork from a copy of its state is the run that would have come.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from zoo import piecewise
from zoo.data.batches import Batches
from zoo.metrics import paired_blocks
from zoo.metrics.paired_blocks import Sums
from zoo.piecewise import Piece
from zoo.training import actions
from zoo.training.context import RunContext
from zoo.training.run_state import RunState
from zoo.training.signals import Interrupt

# Student's t over so many blocks is nearly normal.
_BLOCKS = 25
# Fewer say nothing.
FEWEST = 10


class Choice(NamedTuple):
    """What a fork does from now on.

    Attributes:
        name: how it is called.
        pieces: the values of each control, see `zoo.engine.controls`.
    """

    name: str
    pieces: Mapping[str, Sequence[Piece]]


class Halves(NamedTuple):
    """The examples of a validation split: the even ones choose, the odd ones guard against choosing by chance."""

    chooses: Batches
    guards: Batches


class Judged(NamedTuple):
    """A choice's sums of the metric on both halves."""

    chooses: Sums
    guards: Sums


def halves(batches: Batches) -> Halves:
    """Both halves of a validation split, in batches that are the blocks of a paired comparison."""
    return Halves(*(_part(batches, np.arange(first, batches.examples, 2)) for first in (0, 1)))


def _part(batches: Batches, rows: np.ndarray) -> Batches:
    columns = {name: np.asarray(column[rows]) for name, column in batches.columns.items()}
    lengths = None if batches.lengths is None else np.asarray(batches.lengths)[rows]
    size = max(1, min(batches.batch_size, len(rows) // _BLOCKS))
    return dataclasses.replace(batches, columns=columns, lengths=lengths, batch_size=size)


def judged(
    context: RunContext,
    state: RunState,
    interrupt: Interrupt,
    choices: Sequence[Choice],
    steps: int,
    parts: Halves,
    terms: Sequence[str],
) -> list[Judged] | None:
    """Trains each choice for some steps from the present state, evaluates it, and goes back.

    Args:
        context: the run.
        state: where it is.
        interrupt: what signals ask for.
        choices: what is tried.
        steps: steps of each.
        parts: the halves of the validation split.
        terms: names of the terms whose means, added up, are the metric.

    Returns:
        The sums of each choice; None where a signal has asked the run to stop.
    """
    engine, found = context.engine, []
    before = engine.state()
    try:
        for choice in choices:
            if not _trained(context, state, interrupt, choice, steps):
                return None
            with actions.averaged_weights(context):
                sums = [paired_blocks.sums(engine.evaluate_by_batch(part), terms) for part in parts]
            found.append(Judged(*sums))
            engine.load(before)
    finally:
        engine.load(before)
    return found


def _trained(context: RunContext, state: RunState, interrupt: Interrupt, choice: Choice, steps: int) -> bool:
    """Trains with a choice; whether it came to its end."""
    step, end = state.step, state.step + steps
    while step < end:
        stops = [end - step, context.pace.steps, state.left_out.steps_until(step)]
        stops += [piecewise.steps_until_next(pieces, step) for pieces in choice.pieces.values()]
        # As many steps as the first worker's pace, and a signal to any worker stops all.
        rows = context.workers.gather([interrupt.signal, min(stop for stop in stops if stop)])
        if rows[:, 0].any():
            return False
        count, started = int(rows[0, 1]), time.perf_counter()
        actions.set_controls(context, choice.pieces, step)
        context.engine.train(context.experiment.train, state.left_out.batch(step), count)
        context.pace.update(count, time.perf_counter() - started)
        step += count
    return True
