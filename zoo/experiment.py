"""What an experiment's `build(config)` returns: the one thing that the outer loop knows of a task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from zoo.config import Config
from zoo.data.batches import Batches
from zoo.engine.optimizers import Group
from zoo.engine.task import BatchLosses, ForwardFn
from zoo.engine.updates import Update
from zoo.keras_task import parts as keras_parts
from zoo.metrics.decisions import Goal
from zoo.metrics.evaluation_report import ComputeMetrics
from zoo.metrics.label_thresholds import LabelGoal
from zoo.models.logits_mixture import LogitsMixture
from zoo.tensorboard.own_summaries import OnLog
from zoo.tensorboard.views import ProjectorPoints, Visualize

# A function of the outputs and the columns of a test set.
Predictions = Callable[[Mapping[str, np.ndarray], Mapping[str, np.ndarray]], Mapping[str, Sequence[Any]]]


class TunedShare(NamedTuple):
    """A network's weight beside a linear model, which is chosen after training; see `zoo.training.network_share`.

    Attributes:
        layer: mixes the logits of both; the model's last layer, whose output `forward` returns as the output "logits".
        losses: `losses(logits, columns) -> float64 [examples]`, from these logits and the columns of an evaluation.
        name: what the mean of the losses is called.
    """

    layer: LogitsMixture
    losses: Callable[[np.ndarray, Mapping[str, np.ndarray]], np.ndarray]
    name: str = "cross-entropy"


class Experiment(NamedTuple):
    """A model, its task and its data.

    Attributes:
        model: a Keras model, built, made inside `build`.
        forward: `forward(model, batch, training) -> dict[str, Term]`, the whole task on one replica's rows.
        train: training batches.
        evals: validation batches by name; the first one's `--metric` decides which weights are best.
        tests: test batches by name, evaluated once, at the end, with the weights that are exported.
        objective: the terms whose means are summed into the loss.
        batch_losses: `batch_losses(outputs, weights) -> dict[str, Term]`, terms of all rows of the global batch, such
            as contrastive losses. It gets the Outputs of `forward`, `[global batch, ...]`, and the rows' weights, 0 for
            padding; terms that the objective names are minimized. Costs one more forward pass in each step.
        updates: the updates of a step where there are several in turn, such as those of a GAN's two networks; instead
            of `objective` and `optimizer`. See `zoo.Update`.
        optimizer: a Keras optimizer, groups of variables with an optimizer each, or None for the config's.
        compute_metrics: `compute_metrics(means, outputs, columns, final) -> metrics`, for metrics that are not the mean
            of a term. It gets the terms' means, the outputs and the columns `[examples, ...]` of an evaluation; `final`
            is True at the end of the run, where intervals (`NAME_low`, `NAME_high`) are worth their time.
        predictions: `predictions(outputs, columns) -> table`, columns by name of one row for each test example, written
            to TEST/predictions.csv; see `zoo.training.test_predictions`.
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
        tuned: the share of the network beside a linear model, chosen on the first validation set after training.
        decision: what decisions are for, where the class is not to be the most probable one: the rule is tuned on the
            first validation set after training, stored in model.json, and tested beside the most probable class. Needs
            the output "logits", the column `y`, and `classes` in `model_info`.
        baseline: returns a simpler model's metrics on the same splits; called at the end and added to the result.
        conclusion: returns lines to print at the very end, from the whole result: how the model compares with its
            baseline, and what would help.
        notes: what happened to the data; printed at the start.
        on_log: `on_log(step, metrics, writer)`, code of your own, called in the process that writes files after each
            training log (every `--log_every` steps) with the metrics `train/NAME`, and after each evaluation with
            `EVAL/NAME`. `writer` adds your scalars, images and texts to TensorBoard. It may read the model, and must
            change neither the model nor the optimizer: a resumed run would not repeat that. Where it returns True, the
            run ends as if that were its last step.
        reported_loss: `reported_loss(metrics) -> float`, the loss to report, from the means of the terms in training or
            evaluation, with the `penalty` where it is known; None: the term `loss`, or the sum of the objective's.
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
    tuned: TunedShare | None = None
    decision: Goal | LabelGoal | None = None
    baseline: Callable[[], Mapping[str, float]] | None = None
    conclusion: Callable[[Mapping[str, float]], Sequence[str]] | None = None
    notes: Sequence[str] = ()
    on_log: OnLog | None = None
    config: Config | None = None
    batch_losses: BatchLosses | None = None
    updates: Sequence[Update] = ()
    reported_loss: Callable[[Mapping[str, float]], float] | None = None
    predictions: Predictions | None = None

    @classmethod
    def from_keras(
        cls,
        model: keras.Model,
        config: Config,
        x: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        **parts: Any,
    ) -> "Experiment":
        """The experiment of a compiled Keras model, for `build(config)`.

        Its losses, metrics and optimizer are those of `model.compile`; the data are as in `model.fit`, cut into batches
        of the config's `batch_size`.

        Args:
            model: a compiled model, made inside `build`; built from the data if it has no weights yet.
            config: config of the run; it gives the batch size, the seed and `l2`. Flags of the optimizer count only
                where `build` passes them to `model.compile`.
            x: arrays, a nested structure of them, or a dataset; see `zoo.keras_task.sources.read`.
            y: targets; None for a dataset.
            sample_weight: weights of the examples; None for 1 each.
            class_weight: weights by class, instead of `sample_weight`.
            validation_split: fraction of the arrays, from their end, that is kept for validation.
            validation_data: `(x, y)`, `(x, y, sample_weight)` or a dataset; the validation set `eval`.
            shuffle: whether each epoch has an order of its own; else that of the data.
            **parts: further attributes of the experiment.

        Raises:
            BadInput: one line on what does not fit; see `zoo.keras_task`.
        """
        train, validation = keras_parts.examples(
            x,
            y,
            sample_weight=sample_weight,
            class_weight=class_weight,
            validation_split=validation_split,
            validation_data=validation_data,
        )
        made, _ = keras_parts.experiment_parts(model, config, train, validation, shuffle=shuffle)
        return cls(**{**made, **parts})
