"""What an experiment's `build(config)` returns: the one thing that the outer loop knows of a task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from zoo.config import Config
from zoo.data.batches import Batches
from zoo.engine.optimizers import Group
from zoo.engine.step import ForwardFn
from zoo.metrics.evaluation_report import ComputeMetrics
from zoo.tensorboard.views import ProjectorPoints, Visualize


class Experiment(NamedTuple):
    """A model, its task and its data.

    Attributes:
        model: a Keras model, built, made inside `build`.
        forward: `forward(model, batch, training) -> dict[str, Term]`, the whole task on one replica's rows.
        train: training batches.
        evals: validation batches by name; the first one's `--metric` decides which weights are best.
        tests: test batches by name, evaluated once, at the end, with the weights that are exported.
        objective: the terms whose means are summed into the loss.
        optimizer: a Keras optimizer, groups of variables with an optimizer each, or None for the config's.
        compute_metrics: `compute_metrics(means, outputs, columns, final) -> metrics`, for metrics that are not the mean
            of a term. It gets the terms' means, the outputs and the columns `[examples, ...]` of an evaluation; `final`
            is True at the end of the run, where intervals (`NAME_low`, `NAME_high`) are worth their time.
        visualize: `visualize(outputs, columns) -> EvaluationView`, what TensorBoard shows of an evaluation besides
            curves; see `zoo.tensorboard.views`.
        projector_points: `projector_points(count) -> ProjectorPoints`, at most `count` examples for the embedding
            projector.
        head: names of the layers that may start from fresh weights where `--init_from` has a model without them.
        initial_weights: returns the weights of a new run by the names of `engine.state.named`, instead of those of
            `--init_from`; weights of the head may be missing.
        reinitialize: names of the layers that start from fresh weights even where `--init_from` has weights for them.
        compile: what --compile=auto means for this model; see `Engine`.
        model_info: what `zoo predict` must know besides the model; written to model.json.
        files: texts by file name, written to the workdir beside model.json (a tokenizer).
        baseline: returns a simpler model's metrics on the same splits; called at the end and added to the result.
        conclusion: returns lines to print at the very end, from the whole result: how the model compares with its
            baseline, and what would help.
        notes: what happened to the data; printed at the start.
        config: the config with what `build` chose for its unset fields; None: as it was given. The run uses and records
            it, so its flags.txt repeats the run whatever later versions choose.
    """

    model: keras.Model
    forward: ForwardFn
    train: Batches
    evals: Mapping[str, Batches] = {}
    tests: Mapping[str, Batches] = {}
    objective: Sequence[str] = ("loss",)
    optimizer: keras.optimizers.Optimizer | Sequence[Group] | None = None
    compute_metrics: ComputeMetrics | None = None
    visualize: Visualize | None = None
    projector_points: Callable[[int], ProjectorPoints] | None = None
    head: Sequence[str] = ()
    initial_weights: Callable[[], Mapping[str, np.ndarray]] | None = None
    reinitialize: Sequence[str] = ()
    compile: str = "auto"
    model_info: Mapping[str, Any] = {}
    files: Mapping[str, str] = {}
    baseline: Callable[[], Mapping[str, float]] | None = None
    conclusion: Callable[[Mapping[str, float]], Sequence[str]] | None = None
    notes: Sequence[str] = ()
    config: Config | None = None
