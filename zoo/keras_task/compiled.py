"""What `model.compile` asked for: which loss and metric compares which target with which output, under which name.

Keras' own resolver answers: the losses and metrics are replaced by recorders, which note what they are called with. So
lists, dictionaries, nested outputs, outputs without a loss and Keras' names are those of `fit`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from zoo.engine import private_apis
from zoo.errors import BadInput

_METHODS = ("train_step", "test_step", "compute_loss", "compute_metrics", "make_train_function")


class Leaf(NamedTuple):
    """A target, an output or the weights of examples.

    Attributes:
        shape: shape of the array.
        column: name of the column, or the number of the output among the flat outputs.
    """

    shape: tuple[int | None, ...]
    column: Any


class LossPart(NamedTuple):
    """One loss of a compiled model.

    Attributes:
        name: output's or loss's name, as `fit` shows it.
        loss: the loss.
        weight: its factor in the sum.
        target: column of the targets; None without any.
        output: number of the output among the flat outputs.
        sample_weight: column of the examples' weights; None for 1 each.
    """

    name: str
    loss: keras.losses.Loss
    weight: float
    target: str | None
    output: int
    sample_weight: str | None


class MetricPart(NamedTuple):
    """One metric of a compiled model; attributes as those of `LossPart`."""

    name: str
    metric: keras.metrics.Metric
    target: str | None
    output: int
    sample_weight: str | None


class Structures(NamedTuple):
    """Targets, outputs and weights as nested structures of `Box`ed leaves, as `fit` would pass them."""

    y: Any
    y_pred: Any
    sample_weight: Any


class Box:
    """A leaf that keras.tree does not open, with a shape as Keras reads it."""

    def __init__(self, leaf: Leaf):
        self.leaf = leaf
        self.shape = leaf.shape


def check(model: keras.Model) -> dict[str, Any]:
    """The arguments of `model.compile`.

    Raises:
        BadInput: the model is not compiled, has no loss, or has a training step of its own.
    """
    if not isinstance(model, keras.Model):
        raise BadInput(f"model is a {type(model).__name__}: expected a compiled keras.Model")
    if not model.compiled:
        raise BadInput(f"the model {model.name!r} is not compiled: call model.compile(optimizer, loss, metrics) first")
    own = [name for name in _METHODS if getattr(type(model), name) is not getattr(keras.Model, name)]
    if own:
        raise BadInput(
            f"{type(model).__name__}.{own[0]} is its own, which the engine would not call: write the task as "
            "forward(model, batch, training) for zoo.Experiment, or use model.fit"
        )
    arguments = private_apis.compile_arguments(model)
    if not keras.tree.flatten(arguments.get("loss")) or arguments.get("loss") is None:
        raise BadInput(f"the model {model.name!r} is compiled without a loss: expected loss= in model.compile")
    if model.optimizer is None:
        raise BadInput(f"the model {model.name!r} is compiled without an optimizer: expected optimizer=")
    if arguments.get("run_eagerly"):
        raise BadInput("the model is compiled with run_eagerly=True, and the engine compiles its steps; use model.fit")
    return arguments


def losses(model: keras.Model, structures: Structures) -> list[LossPart]:
    """The losses of a compiled model.

    Raises:
        BadInput: losses, targets and outputs do not fit each other; holds Keras' reason.
    """
    arguments, record = private_apis.compile_arguments(model), []
    recorders = keras.tree.map_structure(lambda loss: _recorded_loss(loss, record), arguments["loss"])
    factors = arguments.get("loss_weights")
    if factors is not None and not keras.tree.is_nested(factors):
        factors = float(factors)
    resolver = private_apis.compile_loss(recorders, factors, _output_names(model))
    _resolved("loss", resolver, *structures)
    parts = []
    for (factor, name), (loss, y_true, y_pred, weight) in zip(private_apis.loss_factors(resolver), record, strict=True):
        loss = private_apis.loss_object(loss, y_true, y_pred)
        factor = 1.0 if factor is None else float(factor)
        parts.append(LossPart(name, loss, factor, _column(y_true), _column(y_pred), _column(weight)))
    if len(parts) > 1 and not keras.tree.is_nested(structures.y_pred):
        raise BadInput(
            f"{len(parts)} losses for one output, of which Keras minimizes the first alone: expected one, such as a "
            "function that adds them up"
        )
    return parts


def metrics(model: keras.Model, structures: Structures) -> list[MetricPart]:
    """The metrics of a compiled model.

    Raises:
        BadInput: metrics, targets and outputs do not fit each other, or Keras does not know one; holds Keras' reason.
    """
    arguments = private_apis.compile_arguments(model)
    plain, weighted = arguments.get("metrics"), arguments.get("weighted_metrics")
    if not plain and not weighted:
        return []
    given = keras.tree.map_structure(_recorded_metric, (plain, weighted))
    resolver = private_apis.compile_metrics(*given, _output_names(model))
    _resolved("metrics", resolver.update_state, *structures)
    parts = []
    for name, recorder in resolver.result().items():
        y_true, y_pred, weight = recorder.called
        metric = _resolved("metrics", private_apis.metric_object, recorder.identifier, y_true, y_pred)
        parts.append(MetricPart(name, metric, _column(y_true), _column(y_pred), _column(weight)))
    return parts


class _LossRecorder(keras.losses.Loss):
    def __init__(self, identifier: Any, record: list):
        super().__init__(name=_name(identifier))
        self._identifier, self._record = identifier, record

    def __call__(self, y_true, y_pred, sample_weight=None):
        self._record.append((self._identifier, y_true, y_pred, sample_weight))
        return 0.0


class _MetricRecorder(keras.metrics.Metric):
    def __init__(self, identifier: Any):
        super().__init__(name=_name(identifier))
        self.identifier = identifier
        self.called: Sequence[Any] = ()

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.called = (y_true, y_pred, sample_weight)

    def reset_state(self):
        self.called = ()

    def result(self):
        return self


def _recorded_loss(identifier: Any, record: list) -> keras.losses.Loss | None:
    return None if identifier is None else _LossRecorder(identifier, record)


def _recorded_metric(identifier: Any) -> keras.metrics.Metric | None:
    return None if identifier is None else _MetricRecorder(identifier)


def _name(identifier: Any) -> str:
    """The name that Keras gives to a loss or metric."""
    if isinstance(identifier, str):
        return identifier
    return getattr(identifier, "name", None) or getattr(identifier, "__name__", type(identifier).__name__)


def _output_names(model: keras.Model) -> list[str] | None:
    return getattr(model, "output_names", None)


def _column(box: Any) -> Any:
    return box.leaf.column if isinstance(box, Box) else None


def _resolved(what: str, function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:
        # Keras raises KeyError, ValueError and TypeError of many kinds here; all say what does not fit.
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{what} in model.compile does not fit the model and its data: {reason}") from error
