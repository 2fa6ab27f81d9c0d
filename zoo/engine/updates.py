"""Several updates in turn in one step, such as those of a GAN's discriminator and generator."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from zoo.engine import step as step_functions
from zoo.engine.optimizers import Group
from zoo.engine.task import ForwardFn, ReplicaBatch, StepFunctions, Task
from zoo.errors import BadInput
from zoo.terms import WeightedSum


class Update(NamedTuple):
    """One of several updates that a step makes in turn, each with its own losses, variables and optimizer.

    An update sees the weights that those before it have changed, and draws noise of its own.

    Attributes:
        name: part of the tags of its gradient norm and its learning rate.
        variables: the variables that it trains; each trainable variable of the model belongs to one update.
        objective: the terms whose means are summed into its loss; no other update has one of them.
        forward: its task, as the experiment's `forward`; None for that one.
        optimizer: a Keras optimizer; None for the config's.
        times: how often it is made in a step before the next one, on the same examples with other noise. A critic of a
            Wasserstein GAN has 5 (Arjovsky et al., 2017, algorithm 1).
    """

    name: str
    variables: Sequence[keras.Variable]
    objective: Sequence[str] = ("loss",)
    forward: ForwardFn | None = None
    optimizer: keras.optimizers.Optimizer | None = None
    times: int = 1


def check(updates: Sequence[Update]) -> None:
    """Refuses updates whose names, terms or variables are not their own.

    Raises:
        BadInput: names the update and what is wrong with it.
    """
    terms: dict[str, str] = {}
    for number, update in enumerate(updates):
        if not isinstance(update, Update):
            raise BadInput(f"updates[{number}] is a {type(update).__name__}: expected zoo.Update(name, variables, ...)")
        where = f"updates[{number}], {update.name!r},"
        if not update.name or "/" in update.name or update.name in [other.name for other in updates[:number]]:
            raise BadInput(f"{where} needs a name of its own, without a slash")
        if not update.variables:
            raise BadInput(f"{where} has no variables: expected those it trains; are the layers built, and trainable?")
        if isinstance(update.objective, str) or not update.objective:
            raise BadInput(f"{where} has the objective {update.objective!r}: expected names, as ('loss',)")
        if update.times < 1:
            raise BadInput(f"{where} has times={update.times}: expected 1 or more")
        for term in update.objective:
            if term in terms:
                raise BadInput(
                    f"{where} minimizes the term {term!r}, as {terms[term]!r} does: expected terms of its own; "
                    "forward gives each loss a name"
                )
            terms[term] = update.name


def groups(updates: Sequence[Update], make: Callable[[int], keras.optimizers.Optimizer]) -> list[Group]:
    """One optimizer group for each update.

    Args:
        updates: the updates.
        make: makes the config's optimizer, from how often it is applied in a step.
    """
    return [
        Group(update.name, list(update.variables), make(update.times) if update.optimizer is None else update.optimizer)
        for update in updates
    ]


def tasks(whole: Task, updates: Sequence[Update]) -> list[Task]:
    """What each update works on; of one without updates the whole task."""
    if not updates:
        return [whole]
    by_name = {group.name: group for group in whole.groups}
    made = [
        whole._replace(
            name=update.name,
            variables=by_name[update.name].variables,
            forward=update.forward or whole.forward,
            objective=tuple(update.objective),
            groups=[by_name[update.name]],
            averages=[],
            is_by_row={},
            added={},
            moving_statistics=[],
        )
        for update in updates
    ]
    # Once in a step, when all weights have moved.
    made[-1] = made[-1]._replace(averages=whole.averages)
    return made


def turns(updates: Sequence[Update]) -> tuple[int, ...]:
    """The number of the update for each turn of a step."""
    return tuple(number for number, update in enumerate(updates) for _ in range(update.times)) or (0,)


def in_turn(
    tasks: Sequence[Task],
    parts: Sequence[StepFunctions],
    turns: Sequence[int],
    share: ReplicaBatch,
    step: tf.Tensor,
    measure: tf.Tensor,
) -> tuple[dict[str, WeightedSum], dict[str, tf.Tensor]]:
    """Runs one training step; see `zoo.engine.step.train`.

    Args:
        tasks: what each update works on.
        parts: the step's functions of each.
        turns: the number of the update for each turn.
        share: this replica's part of the batch.
        step: scalar int32.
        measure: scalar bool, whether to compute gradient norms even if they are not clipped.

    Returns:
        The terms' sums: those of an objective from the last turn of its update, others from the first turn that has
        them. Scalars by name.
    """
    if len(turns) == 1:
        return step_functions.train(tasks[0], parts[0], share, step, measure)
    terms: dict[str, WeightedSum] = {}
    scalars: dict[str, tf.Tensor] = {}
    for number, turn in enumerate(turns):
        task = tasks[turn]
        # Each turn has noise of its own.
        sums, more = step_functions.train(task, parts[turn], share, noise_step(step, turns, number), measure)
        terms = {**sums, **terms, **{name: sums[name] for name in task.losses if name in sums}}
        norm, rate = more.pop("gradient_norm"), more.pop("learning_rate")
        scalars |= {f"{task.name}/gradient_norm": norm, f"learning_rate/{task.name}": rate, **more}
    return terms, scalars


def noise_step(step, turns: Sequence[int], number: int):
    """The number that the noise of a turn depends on: one for each turn of the run."""
    return step * len(turns) + number
