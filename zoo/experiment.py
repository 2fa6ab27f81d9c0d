"""What an experiment's `build(config)` returns: the one thing that the outer loop knows of a task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from zoo.data.batches import Batches
from zoo.engine.optimizers import Group
from zoo.engine.step import Forward
from zoo.metrics.evaluation_report import Judge
from zoo.tensorboard.views import Points, Show


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
        judge: `judge(means, outputs, columns, final) -> metrics` of an evaluation, for metrics that are no mean: from
            the terms' means, outputs and columns `[examples, ...]`; `final` where the result is written, which is worth
            intervals, `NAME_low` and `NAME_high`.
        show: `show(outputs, columns) -> View` of an evaluation, what TensorBoard gets besides the curves; see
            `zoo.tensorboard.views`.
        points: `points(count) -> Points` for the embedding projector, of so many examples at most.
        head: the layers, by name, that may start fresh where `--init_from` has a model without them.
        initial: gives the weights of a fresh run by `engine.state.named`'s names, in the place of what is read from
            `--init_from`; the head's may be missing.
        fresh: layers, by name, that start fresh even where `--init_from` has weights for them.
        compile: what --compile=auto means for this model; see `Engine`.
        about: what `zoo predict` must know besides the model; written to model.json.
        files: name -> text, written to the workdir beside model.json (a tokenizer).
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
    judge: Judge | None = None
    show: Show | None = None
    points: Callable[[int], Points] | None = None
    head: Sequence[str] = ()
    initial: Callable[[], Mapping[str, np.ndarray]] | None = None
    fresh: Sequence[str] = ()
    compile: str = "auto"
    about: Mapping[str, Any] = {}
    files: Mapping[str, str] = {}
    baseline: Callable[[], Mapping[str, float]] | None = None
    notes: Sequence[str] = ()
