"""Initial weights from another run or a file (`--init_from`)."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
from safetensors.numpy import load_file

from zoo import files
from zoo import workdir as folders
from zoo.engine import checkpoints
from zoo.engine.engine import Engine
from zoo.engine.state import averaged, named
from zoo.errors import BadInput
from zoo.experiment import Experiment


def load(engine: Engine, source: str, experiment: Experiment) -> str:
    """Loads initial weights: those of the newest checkpoint in a workdir, or of a .keras or .safetensors file of a run.

    Args:
        engine: engine whose model is initialized.
        source: workdir or file; not read if the experiment has `initial_weights`.
        experiment: names the layers that may be missing in the source or have another shape (`head`), and those to
            leave at their first weights (`reinitialize`, and that of `tuned`).

    Returns:
        One line that says what was loaded.

    Raises:
        BadInput: the source is missing or unreadable, or its weights do not fit.
    """
    path = files.absolute(source)
    if experiment.initial_weights is not None:
        message, weights = f"weights from {source}", experiment.initial_weights()
    elif path.suffix in (".keras", ".safetensors") and not path.is_file():
        # A pipe or device would be read for ever.
        raise BadInput(f"--init_from {path} cannot be read: expected a regular file")
    elif path.suffix == ".keras":
        message, weights = f"weights from {path}", _keras_weights(path)
    elif path.suffix == ".safetensors":
        message, weights = f"weights from {path}", _saved_weights(path)
    else:
        checkpoint, _ = checkpoints.restore(path / folders.CHECKPOINTS)
        if checkpoint is None:
            raise BadInput(
                f"--init_from {path} has no checkpoints: expected a workdir of this project, or a .keras or "
                ".safetensors file of a run"
            )
        message, weights = f"weights from {path}, step {checkpoint.step:,}", averaged(checkpoint.state)
    # A share was chosen for the other run's own network.
    tuned = [] if experiment.tuned is None else [experiment.tuned.layer.name]
    fresh = _start(engine, weights, experiment.head, [*experiment.reinitialize, *tuned])
    engine.restart_averages()
    return f"{message}; {', '.join(fresh)} start fresh" if fresh else message


def _start(engine: Engine, weights: dict[str, Any], head: Sequence[str], reinitialize: Sequence[str]) -> list[str]:
    """Loads the weights by layer; returns the layers that keep their random weights."""
    mine, theirs = _by_layer(n for n in engine.variables() if n.startswith("model/")), _by_layer(weights)
    present, chosen, fresh = engine.state(), {}, {}
    for key, name in mine.items():
        layer = key[0].partition("/")[0]
        fits = key in theirs and weights[theirs[key]].shape == present[name].shape
        if layer in reinitialize or (layer in head and not fits):
            fresh[layer] = None
            chosen[name] = present[name]
        elif key in theirs:
            chosen[name] = weights[theirs[key]]
    # A head in the source may be left over; any other layer left over shows that the model is another one.
    rest = [name for key, name in theirs.items() if key not in mine and key[0].partition("/")[0] not in head]
    engine.load_model(chosen | {name: weights[name] for name in rest})
    return list(fresh)


def _by_layer(names: Iterable[str]) -> dict[tuple[str, int], str]:
    """Names of variables by layer/variable and a count of equal paths before, as the models' numbering may differ."""
    by_layer = {}
    for name in sorted(names):
        path = name.split("/", 2)[2]
        by_layer[path, sum(other == path for other, _ in by_layer)] = name
    return by_layer


def _saved_weights(path: Path) -> dict[str, Any]:
    """The weights that a run without a model.keras keeps."""
    try:
        weights = load_file(path)
    except Exception as error:
        # As below: a damaged file can fail anywhere.
        raise BadInput(f"--init_from {path} cannot be read: {str(error).splitlines()[0]}") from error
    if not all(name.startswith("model/") and name.count("/") > 1 for name in weights):
        raise BadInput(f"--init_from {path} holds other weights: expected the file that a run of this project left")
    return weights


def _keras_weights(path: Path) -> dict[str, Any]:
    try:
        other = keras.models.load_model(path, compile=False)
    except Exception as error:
        # A damaged file can fail anywhere in zip, JSON, HDF5 or Keras; to the user all mean the same.
        raise BadInput(f"--init_from {path} cannot be read: {str(error).splitlines()[0]}") from error
    return named(other)
