"""What a run's first weights are, where they are not drawn: those of another run or file (`--init_from`)."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras

from zoo import files
from zoo import workdir as folders
from zoo.engine import checkpoints
from zoo.engine.engine import Engine
from zoo.engine.state import averaged, named
from zoo.errors import BadInput
from zoo.experiment import Experiment


def load(engine: Engine, source: str, experiment: Experiment) -> str:
    """Starts from the weights of another run: the newest checkpoint of a workdir, or a .keras file.

    Args:
        engine: whose model is to start.
        source: a workdir or a file; not read where the experiment knows the weights.
        experiment: says which layers may be missing there or be of another shape (`head`), or start fresh anyway.

    Returns:
        What was done, in one line.

    Raises:
        BadInput: nothing is there, it cannot be read, or the weights do not fit.
    """
    path = files.absolute(source)
    if experiment.initial_weights is not None:
        said, weights = f"weights from {source}", experiment.initial_weights()
    elif path.suffix == ".keras":
        said, weights = f"weights from {path}", _keras_weights(path)
    else:
        found, _ = checkpoints.restore(path / folders.CHECKPOINTS)
        if found is None:
            raise BadInput(
                f"--init_from {path} has no checkpoints: expected a workdir of this project or a .keras file"
            )
        said, weights = f"weights from {path}, step {found.step:,}", averaged(found.state)
    fresh = _start(engine, weights, experiment.head, experiment.reinitialize)
    engine.restart_averages()
    return f"{said}; {', '.join(fresh)} start fresh" if fresh else said


def _start(engine: Engine, weights: dict[str, Any], head: Sequence[str], anew: Sequence[str]) -> list[str]:
    """Loads the weights by layer, all but what starts fresh; returns the layers that stay as they are."""
    mine, theirs = _by_layer(n for n in engine.variables() if n.startswith("model/")), _by_layer(weights)
    present, chosen, fresh = engine.state(), {}, {}
    for place, name in mine.items():
        layer = place[0].partition("/")[0]
        fits = place in theirs and weights[theirs[place]].shape == present[name].shape
        if layer in anew or (layer in head and not fits):
            fresh[layer] = None
            chosen[name] = present[name]
        elif place in theirs:
            chosen[name] = weights[theirs[place]]
    # The head of the other model has nothing to go to; anything else that is left over says that it is another model.
    left = [name for place, name in theirs.items() if place not in mine and place[0].partition("/")[0] not in head]
    engine.load_model(chosen | {name: weights[name] for name in left})
    return list(fresh)


def _by_layer(names: Iterable[str]) -> dict[tuple[str, int], str]:
    """Names of variables by layer, variable and how many of that name came before, as places may differ."""
    found = {}
    for name in sorted(names):
        path = name.split("/", 2)[2]
        found[path, sum(known == path for known, _ in found)] = name
    return found


def _keras_weights(path: Path) -> dict[str, Any]:
    try:
        other = keras.models.load_model(path, compile=False)
    except Exception as error:
        # A damaged file can fail anywhere in zip, JSON, HDF5 or Keras; all of it means the same to a user.
        raise BadInput(f"--init_from {path} cannot be read: {str(error).splitlines()[0]}") from error
    return named(other)
