"""What the table of the HParams tab should show of several runs: the flags in which they differ, and their results.

By itself TensorBoard shows all flags in the order of the alphabet, and all curves.
"""

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import workdir as folders

# What is shown of runs that do not differ.
_MAIN = ("optimizer", "learning_rate", "batch_size", "epochs", "steps", "seed")
# Flags of how a run is watched and kept: they are no part of what it learns.
_WATCHING = re.compile(r"show|graph|histograms|projector|profile|\w+_every|keep|steps_per_loop|baseline|decay_every")
_METRIC = re.compile(r"(?!best/)([^/]+)/([^/]+)")
_NO_RESULT = re.compile(r".*(_low|_high|_macro|_weighted|_norm|_per_second|learning_rate)")
_COLUMNS = 12


def write(folder: Path, runs: Mapping[str, Path]) -> None:
    """Writes an event file that tells TensorBoard which columns to show of these runs."""
    # Here and not above: the command line's --help needs none of it.
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    flags = differing([_read(path / folders.RUN).get("config", {}) for path in runs.values()])
    found = results([_read(path / folders.RESULT) for path in runs.values()])
    hparams = [api.HParam(name, _domain(api, values)) for name, values in flags.items()]
    metrics = [api.Metric(tag, group=run, display_name=f"{run} {tag}") for run, tag in found]
    made = api.hparams_config_pb(hparams, metrics)
    writer = EventFileWriter(str(folder))
    writer.add_event(Event(wall_time=time.time(), summary=Summary.FromString(made.SerializeToString())))
    writer.close()


def differing(configs: list[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The flags in which configs differ, or the main ones where they do not, with all of their values."""
    # Of runs of several kinds, what all of them have.
    names = [name for name in configs[0] if all(name in config for config in configs)]
    values = {name: [_plain(config[name]) for config in configs] for name in names}
    found = {name: each for name, each in values.items() if len(set(each)) > 1 and not _WATCHING.fullmatch(name)}
    return found or {name: each for name, each in values.items() if name in _MAIN}


def results(found: list[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Run and tag of what results have in them, the test's first; the loss where nothing is finished yet."""
    names = dict.fromkeys(name for result in found for name in result)
    pairs = [_METRIC.fullmatch(name).groups() for name in names if _METRIC.fullmatch(name)]
    pairs = [pair for pair in pairs if not _NO_RESULT.fullmatch(pair[1]) and not pair[1].startswith("baseline_")]
    order = {"test": 0, "train": 2}
    return sorted(pairs, key=lambda pair: order.get(pair[0], 1))[:_COLUMNS] or [("eval", "loss"), ("train", "loss")]


def _domain(api, values: list[Any]):
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return api.RealInterval(float(min(values)), float(max(values)))
    same = len({type(value) for value in values}) == 1
    return api.Discrete(sorted(set(values))) if same else None


def _plain(value: Any) -> Any:
    """A value as a session has it, see `summaries.hyperparameters`."""
    return value if isinstance(value, (bool, int, float)) else str(value)


def _read(path: Path) -> dict[str, Any]:
    """A JSON file of a run; nothing where it is not there yet, or torn: the table is a courtesy."""
    try:
        found = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
