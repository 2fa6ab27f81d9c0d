"""What an experiment's `build(config)` returns: the one thing that the outer loop knows of a task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras

from zoo.data.batches import Batches
from zoo.engine.optimizers import Group
from zoo.engine.step import Forward


class Experiment(NamedTuple):
    """A model, its task and its data.

    Attributes:
        model: a Keras model, built, made inside `build`.
        forward: `forward(model, batch, training) -> dict[str, Term]`, the whole task on one replica's rows.
        train: batches to learn from.
        evals: batches to watch and to choose by, name -> batches; the first one's loss decides which weights are best.
        tests: batches that are read once, at the end, with the weights that are exported.
        objective: terms whose means are added up to the loss.
        optimizer: a Keras optimizer, groups of variables with one each, or None for the config's.
        about: what `zoo predict` must know besides the model; written to model.json.
        baseline: a simpler model's metrics on the same splits, computed at the end and added to the result.
        notes: what happened to the data, to be said at the start.
    """

    model: keras.Model
    forward: Forward
    train: Batches
    evals: Mapping[str, Batches] = {}
    tests: Mapping[str, Batches] = {}
    objective: Sequence[str] = ("loss",)
    optimizer: keras.optimizers.Optimizer | Sequence[Group] | None = None
    about: Mapping[str, Any] = {}
    baseline: Callable[[], Mapping[str, float]] | None = None
    notes: Sequence[str] = ()
