"""The task of a compiled Keras model as the engine's `forward` and `compute_metrics`."""

import inspect
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.engine import added_losses, model_check, regularization
from zoo.errors import BadInput, ZooError
from zoo.keras_task import columns, compiled, losses, metrics
from zoo.keras_task.compiled import Box, Leaf, LossPart, MetricPart, Structures
from zoo.keras_task.sources import Examples
from zoo.terms import Output, Term

# Rows on which a model is called once, to build it and to see what it answers.
_ROWS = 2
_OBJECTIVE = "objective/"
_OUTPUT = "y_pred/"
# Colours, nodes of the graph, operations, and Keras' line above the cause.
_AROUND = re.compile(
    r"\x1b\[[0-9;]*m|\{\{.*?\}\}|\[Op:.*|Exception encountered when calling \S+|Arguments received by.*", re.S
)


class KerasTask(NamedTuple):
    """Losses and metrics of a compiled model.

    Attributes:
        layout: columns of the inputs, targets and weights.
        losses: losses, one for each output that has one.
        means: metrics that are means of values per example, in training and in an evaluation.
        others: metrics of an evaluation's outputs.
        objective: terms that are minimized: one if no loss has weights of its own.
        takes_training: whether the model's `call` has the argument `training`.
        penalty: the weights' penalties, which `fit` counts to the loss; None without any.
    """

    layout: columns.Layout
    losses: tuple[LossPart, ...]
    means: tuple[MetricPart, ...]
    others: tuple[MetricPart, ...]
    objective: tuple[str, ...]
    takes_training: bool
    penalty: regularization.Penalty | None

    @property
    def names(self) -> list[str]:
        """What `fit` reports: the loss, each loss of several, the metrics."""
        several = [f"{part.name}_loss" for part in self.losses] if len(self.losses) > 1 else []
        return ["loss", *several, *(part.name for part in (*self.means, *self.others))]

    def forward(self, model: keras.Model, batch: Mapping[str, Any], training: bool) -> dict[str, Term | Output]:
        """Losses, metrics that are means, and in an evaluation the outputs of which the others are computed."""
        outputs = keras.tree.flatten(_call(model, self.layout.inputs(batch), training, self.takes_training))
        terms = [losses.term(part, *_given(part, batch, outputs)) for part in self.losses]
        results: dict[str, Term | Output] = _objective(self.losses, terms, self.objective)
        if len(terms) > 1:
            results |= {f"{part.name}_loss": term for part, term in zip(self.losses, terms, strict=True)}
        results |= {part.name: metrics.term(part, *_given(part, batch, outputs)) for part in self.means}
        if not training:
            numbers = {part.output for part in self.others}
            results |= {f"{_OUTPUT}{number}": Output(tf.identity(outputs[number])) for number in sorted(numbers)}
        return results

    def compute_metrics(self, means: Mapping[str, float], outputs, data, final: bool) -> dict[str, float]:
        """The metrics that are not means, of a whole data set."""
        by_number = {int(name.removeprefix(_OUTPUT)): _float(values) for name, values in outputs.items()}
        return metrics.evaluated(self.others, by_number, data)

    def reported_loss(self, means: Mapping[str, float]) -> float:
        """The loss with what Keras counts to it: what the layers add, and the penalties of the weights.

        In training `penalty` is a mean over steps; elsewhere it is that of the present weights.
        """
        loss = means["loss"] if "loss" in means else sum(means[name] for name in self.objective)
        loss += sum(means.get(name, 0.0) for name in added_losses.TERMS)
        if self.penalty is None:
            return loss
        return loss + (means["penalty"] if "penalty" in means else float(self.penalty()))


def make(model: keras.Model, examples: Examples, validation: Examples | None = None, l2: float = 0.0) -> KerasTask:
    """The task of a compiled model; builds the model if it has no weights yet.

    Args:
        model: a compiled model.
        examples: examples that it trains on.
        validation: examples of its evaluations, or None; only they may have weights.
        l2: `--l2`, a penalty besides those of the layers.

    Raises:
        BadInput: the model is not compiled, cannot be called on the examples, or a loss or metric does not fit them.
    """
    compiled.check(model)
    if examples.y is None:
        raise BadInput("y is missing, and the losses of a compiled model compare it with the outputs: expected targets")
    layout, batch, takes_training = columns.layout(examples), _first_rows(examples), _takes_training(model)
    if layout.sample_weight is None and validation is not None:
        layout = layout._replace(sample_weight=columns.layout(validation).sample_weight)
    y_pred = build(model, examples)
    model_check.check(model)
    structures = _structures(layout, batch, y_pred)
    parts, outputs = compiled.losses(model, structures), keras.tree.flatten(y_pred)
    terms = [_tried(part, losses.term, batch, outputs) for part in parts if losses.check(part) is None]
    found = compiled.metrics(model, structures)
    means = [part for part in found if metrics.is_mean(part.metric) and _tried(part, metrics.term, batch, outputs)]
    others = [part for part in found if not any(part is mean for mean in means)]
    plain = len(parts) == 1 or all(map(losses.is_plain, terms))
    objective = ("loss",) if plain else tuple(f"{_OBJECTIVE}{part.name}" for part in parts)
    penalty = regularization.penalty(model, l2)
    return KerasTask(layout, tuple(parts), tuple(means), tuple(others), objective, takes_training, penalty)


def check(keras_task: KerasTask, model: keras.Model, examples: Examples, name: str) -> None:
    """Tries the task on the first of other examples than those that it was made for.

    Args:
        keras_task: the task.
        model: its model.
        examples: validation examples.
        name: name of the argument, for errors.

    Raises:
        BadInput: they have other parts or shapes than the model and its losses take.
    """
    expected, found = keras_task.layout, columns.layout(examples)
    for part, (own, other) in {"x": (expected.x, found.x), "y": (expected.y, found.y)}.items():
        if own != other:
            raise BadInput(f"{name} has {part} {other or 'of no kind'}: expected {own}, as in the training data")
    if found.sample_weight not in (None, expected.sample_weight):
        raise BadInput(
            f"{name} has sample_weight {found.sample_weight}: expected {expected.sample_weight}, as in training"
        )
    batch = _first_rows(examples)
    try:
        outputs = keras.tree.flatten(build(model, examples))
        for part in keras_task.losses:
            _tried(part, losses.term, batch, outputs)
        for part in keras_task.means:
            _tried(part, metrics.term, batch, outputs)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from error


def build(model: keras.Model, examples: Examples) -> Any:
    """Calls a model on the first examples, which builds it if it has no weights yet; returns its outputs.

    Raises:
        BadInput: the model cannot be called on them.
    """
    x = columns.layout(examples).inputs(_first_rows(examples))
    try:
        return _call(model, x, False, _takes_training(model))
    except Exception as error:
        # A model's own code may raise anything.
        if isinstance(error, ZooError):
            raise
        shapes = keras.tree.map_structure(lambda each: tuple(each.shape), x)
        raise BadInput(f"the model {model.name!r} cannot be called on x of shape {shapes}: {_line(error)}") from error


def _first_rows(examples: Examples) -> dict[str, tf.Tensor]:
    rows = columns.columns(examples.slice(slice(0, _ROWS)))
    return {name: tf.convert_to_tensor(np.asarray(values)) for name, values in rows.items()}


def _takes_training(model: keras.Model) -> bool:
    return "training" in inspect.signature(model.call).parameters


def _objective(parts, terms: list[Term], names: tuple[str, ...]) -> dict[str, Term | Output]:
    """One term where each value counts the same, as the sum of the losses' means over the rows; else one for each."""
    scaled = [
        term if part.weight == 1.0 else Term(term.values * part.weight, term.weights)
        for part, term in zip(parts, terms, strict=True)
    ]
    if len(names) == len(scaled):
        return dict(zip(names, scaled, strict=True))
    return {names[0]: Term(tf.add_n([losses.per_row(term) for term in scaled]))}


def _given(part: LossPart | MetricPart, batch: Mapping[str, Any], outputs: list) -> tuple[Any, Any, Any]:
    target, weights = (None if name is None else batch.get(name) for name in (part.target, part.sample_weight))
    return target, outputs[part.output], weights


def _call(model: keras.Model, x: Any, training: bool, takes_training: bool) -> Any:
    return model(x, training=training) if takes_training else model(x)


def _structures(layout: columns.Layout, batch: Mapping[str, Any], y_pred: Any) -> Structures:
    def boxed(name: str | None) -> Box | None:
        # Weights that the evaluations alone have.
        shape = tuple(batch[name].shape) if name in batch else (_ROWS,)
        return None if name is None else Box(Leaf(shape, name))

    numbers = iter(range(len(keras.tree.flatten(y_pred))))
    outputs = keras.tree.map_structure(lambda each: Box(Leaf(tuple(each.shape), next(numbers))), y_pred)
    targets = keras.tree.map_structure(boxed, layout.y)
    weights = None if layout.sample_weight is None else keras.tree.map_structure(boxed, layout.sample_weight)
    return Structures(targets, outputs, weights)


def _tried(part: LossPart | MetricPart, function, batch: Mapping[str, Any], outputs: list) -> Term | None:
    """The term on the first rows; a mistake in it is one line."""
    target, output, weights = _given(part, batch, outputs)
    try:
        return function(part, target, output, weights)
    except Exception as error:
        # A loss may be anybody's code.
        if isinstance(error, ZooError):
            raise
        kind = "loss" if isinstance(part, LossPart) else "metric"
        shape = None if target is None else tuple(target.shape)
        raise BadInput(
            f"the {kind} {part.name!r} cannot compare y of shape {shape} with the model's output of shape "
            f"{tuple(output.shape)} (of {_ROWS} examples): {_line(error)}"
        ) from error


def _line(error: Exception) -> str:
    """The message of Keras' or TensorFlow's error without what they put around it."""
    return " ".join(_AROUND.sub(" ", str(error)).split())[:200] or type(error).__name__


def _float(values: np.ndarray) -> np.ndarray:
    return values if values.dtype.kind != "V" and values.dtype.name != "bfloat16" else values.astype(np.float32)
