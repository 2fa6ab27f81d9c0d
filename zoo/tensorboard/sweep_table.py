"""The trials of a sweep for the HParams tab: a session each, with its values, its metric and how it ended.

Protocol buffers and records are written here one by one: the plugin's API and TensorBoard's writer start TensorFlow,
which the process of a sweep never needs.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.summary.writer.record_writer import RecordWriter

from zoo.tensorboard import summaries

_FILES = "events.out.tfevents.*"
_SECONDS = "seconds"


class Session(NamedTuple):
    """A trial.

    Attributes:
        name: its folder's name.
        values: the flags that are tuned: numbers, or texts.
        metric: the metric that it is judged by; None of one that failed or was ended early.
        seconds: how long it took.
    """

    name: str
    values: Mapping[str, float | str]
    metric: float | None
    seconds: float


def write(folder: Path, sessions: Sequence[Session], metric: str) -> None:
    """Adds the sessions that the folder does not have yet, and writes the table's columns for all of them.

    Args:
        folder: log directory for TensorBoard.
        sessions: the trials that are over, one or more.
        metric: tag of the metric that the trials are judged by.
    """
    for session in sessions:
        if not (folder / session.name).is_dir():
            points = {_SECONDS: session.seconds} | ({} if session.metric is None else {metric: session.metric})
            curves = [summaries.scalar(name, value) for name, value in points.items()]
            _write(folder / session.name, [_start(session), *curves, _end(session)])
    # The columns know the values so far.
    for path in folder.glob(_FILES):
        path.unlink()
    _write(folder, [_columns(sessions, metric)])


def _start(session: Session) -> Summary.Value:
    start = plugin_data_pb2.SessionStartInfo(group_name=session.name, start_time_secs=time.time() - session.seconds)
    for name, value in session.values.items():
        if isinstance(value, str):
            start.hparams[name].string_value = value
        else:
            start.hparams[name].number_value = value
    return _value(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))


def _end(session: Session) -> Summary.Value:
    status = api_pb2.STATUS_FAILURE if session.metric is None else api_pb2.STATUS_SUCCESS
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    return _value(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))


def _columns(sessions: Sequence[Session], metric: str) -> Summary.Value:
    infos = []
    for name in sessions[0].values:
        values = [session.values[name] for session in sessions]
        info = api_pb2.HParamInfo(name=name)
        if any(isinstance(value, str) for value in values):
            info.type = api_pb2.DATA_TYPE_STRING
            info.domain_discrete.extend(sorted({str(value) for value in values}))
        else:
            info.type = api_pb2.DATA_TYPE_FLOAT64
            info.domain_interval.min_value, info.domain_interval.max_value = min(values), max(values)
        infos.append(info)
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in (metric, _SECONDS)]
    experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics, time_created_secs=time.time())
    return _value(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment))


def _value(tag: str, content: HParamsPluginData) -> Summary.Value:
    value = Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(content))
    value.tensor.CopyFrom(metadata.NULL_TENSOR)
    return value


def _write(folder: Path, values: Sequence[Summary.Value]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"events.out.tfevents.{time.time_ns()}.sweep.v2").open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        for value in values:
            writer.write(Event(wall_time=time.time(), summary=Summary(value=[value])).SerializeToString())
