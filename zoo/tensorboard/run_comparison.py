"""Columns of the HParams tab to compare runs: the flags in which the runs differ, and their results.

By default TensorBoard shows all flags in alphabetical order, and all curves.
"""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import files
from zoo import workdir as folders

# Flags to show if the runs do not differ.
_MAIN = ("optimizer", "learning_rate", "batch_size", "epochs", "steps", "seed")
# Flags for monitoring and checkpoints, which do not affect the trained model.
_MONITORING = re.compile(r"show|graph|histograms|projector|profile|\w+_every|keep|steps_per_loop|baseline|decay_every")
_METRIC = re.compile(r"(?!best/)([^/]+)/([^/]+)")
_NO_RESULT = re.compile(r".*(_low|_high|_macro|_weighted|_norm|_per_second|learning_rate)")
_COLUMNS = 12


def write(folder: Path, runs: Mapping[str, Path]) -> None:
    """Writes an event file with the columns that TensorBoard shows for these runs."""
    # Imported here: the command line's --help does not need it.
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    flags = differing([_read(path / folders.RUN).get("config", {}) for path in runs.values()])
    tags = results([_read(path / folders.RESULT) for path in runs.values()])
    hparams = [api.HParam(name, _domain(api, values)) for name, values in flags.items()]
    metrics = [api.Metric(tag, group=run, display_name=f"{run} {tag}") for run, tag in tags]
    summary = api.hparams_config_pb(hparams, metrics)
    writer = EventFileWriter(str(folder))
    writer.add_event(Event(wall_time=time.time(), summary=Summary.FromString(summary.SerializeToString())))
    writer.close()


def differing(configs: list[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The flags in which configs differ, with all of their values; the main flags if the configs are equal."""
    # Runs of several experiments are compared by their common flags.
    names = [name for name in configs[0] if all(name in config for config in configs)]
    values = {name: [_plain(config[name]) for config in configs] for name in names}
    different = {name: each for name, each in values.items() if len(set(each)) > 1 and not _MONITORING.fullmatch(name)}
    return different or {name: each for name, each in values.items() if name in _MAIN}


def results(metrics: list[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Run and tag of each metric in the results, test metrics first; the losses if no run has finished."""
    names = dict.fromkeys(name for result in metrics for name in result)
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
    """A value as in a session of the HParams tab, see `summaries.hyperparameters`."""
    return value if isinstance(value, (bool, int, float)) else str(value)


def _read(path: Path) -> dict[str, Any]:
    """A JSON file of a run; {} if it is missing or torn, as the table is optional."""
    try:
        content = files.read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
