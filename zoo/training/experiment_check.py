"""What `build` and `compute_metrics` of an experiment return: a mistake is one line that names the function's place."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from zoo.config import Config
from zoo.data.batches import Batches
from zoo.engine import updates
from zoo.engine.forward_call import defined
from zoo.errors import BadInput
from zoo.experiment import Experiment


def built(build: Callable[[Any], Experiment], config: Config) -> Experiment:
    """The experiment that `build(config)` returns.

    Raises:
        BadInput: it is no experiment, or one of its parts has another type than expected.
    """
    experiment = build(config)
    where = f"build{defined(build)}"
    if not isinstance(experiment, Experiment):
        # A zoo.Experiment is a tuple as well: one that was unpacked by mistake has no name.
        raise BadInput(
            f"{where} returned {_type(experiment)}: expected zoo.Experiment(model=..., forward=..., train=...)"
        )
    expected = {
        "model": (keras.Model, "a keras.Model"),
        "forward": (Callable, "a function forward(model, batch, training)"),
        "train": (Batches, "zoo.Batches"),
        "evals": (Mapping, "a dictionary of zoo.Batches by name"),
        "tests": (Mapping, "a dictionary of zoo.Batches by name"),
        "model_info": (Mapping, "a dictionary"),
        "files": (Mapping, "a dictionary of texts by file name"),
    }
    for name, (kind, shown) in expected.items():
        value = getattr(experiment, name)
        if not isinstance(value, kind):
            raise BadInput(f"{where} returned an Experiment whose {name} is {_type(value)}: expected {shown}")
    if experiment.batch_losses is not None and not callable(experiment.batch_losses):
        shown = _type(experiment.batch_losses)
        raise BadInput(f"{where} returned an Experiment whose batch_losses is {shown}: expected a function, or None")
    for name, batches in {**experiment.evals, **experiment.tests}.items():
        if not isinstance(batches, Batches):
            raise BadInput(f"{where} returned {_type(batches)} as the data set {name!r}: expected zoo.Batches")
    names = experiment.objective
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        raise BadInput(f"{where} returned an Experiment whose objective is {names!r}: expected names, as ('loss',)")
    return _with_updates(experiment) if experiment.updates else experiment


def _with_updates(experiment: Experiment) -> Experiment:
    """The experiment with the objective of all its updates, which is the loss that is shown."""
    updates.check(experiment.updates)
    others = {"optimizer": None, "batch_losses": None, "objective": ("loss",)}
    for name, default in others.items():
        if getattr(experiment, name) != default:
            raise BadInput(f"the Experiment has updates and {name}: expected one of them, as each update has its own")
    return experiment._replace(objective=tuple(term for update in experiment.updates for term in update.objective))


def metrics(experiment: Experiment, means: Mapping[str, float], outputs, columns, final: bool) -> dict[str, float]:
    """The metrics of `compute_metrics`, each one number.

    Raises:
        BadInput: it returned no dictionary, or something else than a number as a metric.
    """
    compute = experiment.compute_metrics
    found = compute(means, outputs, columns, final)
    where = f"compute_metrics{defined(compute)}"
    if not isinstance(found, Mapping):
        raise BadInput(f"{where} returned {_type(found)}: expected a dictionary of numbers by name")
    return {name: _number(name, value, where) for name, value in found.items()}


def _number(name: str, value: Any, where: str) -> float:
    if isinstance(value, (int, float)):
        return value
    try:
        array = np.asarray(value)
        if array.size == 1 and array.dtype.kind in "biuf":
            return array.item()
    except (TypeError, ValueError):
        # A ragged list is no array.
        array = None
    shown = _type(value) if array is None or not array.shape else f"an array of shape {array.shape}"
    raise BadInput(f"{where} returned {shown} as {name!r}: expected a number; name each of several metrics")


def _type(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__}"
