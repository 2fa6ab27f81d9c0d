"""TensorBoard event files without gaps or duplicates after kills and resumes.

Every event belongs to a step. Events up to a checkpoint's step are on the disk before the checkpoint; later ones are
removed when a run resumes from it.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from zoo.errors import BadInput
from zoo.tensorboard import summaries
from zoo.tensorboard.views import EvaluationView

_FILES = "events.out.tfevents.*"
_EVENTS = "events"


class History:
    """Event files of a run: folders `train`, `eval`, `test`, ... with the same tags, common events in the workdir.

    Args:
        workdir: folder of the run.
        runs: names of the folders whose events are at training steps.
        resumed_at: step that the run resumes from, 0 if it was stopped before its first checkpoint; later events are
            removed. None for a new run, which does not touch existing files.
        final: names of the folders that are written once, at the end; a resumed run writes them again.
    """

    def __init__(self, workdir: Path, runs: Sequence[str], resumed_at: int | None, final: Sequence[str] = ()):
        self._workdir = workdir
        self._writers: dict[str, tf.io.TFRecordWriter] = {}
        # Log lines by step.
        self._log: dict[int, list[str]] = {}
        if resumed_at is None:
            return
        self._log = _log_lines(read(workdir), resumed_at)
        # Events of step 0 (config, graph) are written again at each start before the first checkpoint.
        last = resumed_at or -1
        self._cut(runs, last)
        for run in final:
            for path in _paths(workdir / run):
                path.unlink()

    def go_back(self, runs: Sequence[str], step: int) -> None:
        """Removes the events after a step from which the run goes on once more; the lines of its log stay."""
        self.close()
        self._log = _log_lines(read(self._workdir), step)
        self._cut(runs, step)

    def scalars(self, run: str, step: int, values: Mapping[str, float]) -> None:
        """Adds one point to each curve of a run."""
        self._write(run, step, [summaries.scalar(tag, value) for tag, value in values.items()])

    def view(self, run: str, step: int, view: EvaluationView) -> None:
        """Adds images, texts and precision-recall curves of one evaluation."""
        self._write(run, step, summaries.of_view(view))

    def histograms(self, run: str, step: int, arrays: Mapping[str, Any]) -> None:
        """Adds a histogram of each array."""
        self._write(run, step, [summaries.histogram(tag, array) for tag, array in arrays.items()])

    def config(self, values: Mapping[str, Any], texts: Mapping[str, str]) -> None:
        """Adds the run's config as hyperparameters, and verbatim texts by tag."""
        # In the workdir itself: TensorBoard looks for a session's metrics in the folders below it.
        # Named by the folder, as users know a run.
        session = summaries.hyperparameters(values, name=str(self._workdir))
        markdown = ("\n".join(f"    {line}" for line in text.splitlines()) for text in texts.values())
        self._write("", 0, [session, *map(summaries.text, texts, markdown)])

    def graphs(self, run: str, operations: bytes, layers: str) -> None:
        """Adds the graph of operations and the graph of layers.

        Args:
            run: name of the folder.
            operations: a serialized GraphDef; b"" for none.
            layers: a Keras model as JSON; "" for none.
        """
        if layers:
            self._write(run, 0, [summaries.keras_graph(layers)])
        if operations:
            self._add(run, Event(wall_time=time.time(), step=0, graph_def=operations))

    def happened(self, step: int, message: str) -> None:
        """Adds a line to the run's log; all lines of a step are one text."""
        lines = self._log.setdefault(step, [])
        lines.append(f"step {step:,}: {message}")
        # Paragraphs of Markdown, so that each is one line.
        self._write("", step, [summaries.text(_EVENTS, "\n\n".join(lines))])

    def flush(self) -> None:
        """Writes all pending events to disk; called before a checkpoint, so that a resumed run has no gap."""
        with _disk(self._workdir):
            for writer in self._writers.values():
                writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _cut(self, runs: Sequence[str], last: int) -> None:
        for folder in (self._workdir, *(self._workdir / run for run in runs)):
            if _paths(folder):
                cut(folder, last)

    def _write(self, run: str, step: int, values: Sequence[Summary.Value]) -> None:
        if values:
            self._add(run, Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def _add(self, run: str, event: Event) -> None:
        with _disk(self._workdir):
            if run not in self._writers:
                self._writers[run] = _writer(self._workdir / run)
            self._writers[run].write(event.SerializeToString())


def _writer(folder: Path) -> tf.io.TFRecordWriter:
    """A new event file; TensorBoard reads files in the order of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    seconds, rest = divmod(time.time_ns(), 10**9)
    writer = tf.io.TFRecordWriter(
        str(folder / f"events.out.tfevents.{seconds}.{rest:09d}.{socket.gethostname()}.{os.getpid()}.v2")
    )
    writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
    return writer


@contextlib.contextmanager
def _disk(workdir: Path) -> Iterator[None]:
    """Reports a full disk as BadInput, one line instead of the writer's traceback."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise BadInput(f"cannot write TensorBoard's files in {workdir}: {str(error).splitlines()[0]}") from error


def read(folder: Path) -> list[Event]:
    """All complete events of a folder, in the order of its files, without a torn last record.

    Raises:
        BadInput: a file cannot be read.
    """
    events = []
    for path in _paths(folder):
        try:
            for record in tf.data.TFRecordDataset(str(path)):
                events.append(Event.FromString(record.numpy()))
        except (tf.errors.DataLossError, DecodeError):
            continue  # A kill tore the last record; the ones before it have been read.
        except tf.errors.OpError as error:
            raise BadInput(f"TensorBoard's file {path} cannot be read: {error.message.splitlines()[0]}") from error
    return events


def _paths(folder: Path) -> list[Path]:
    """The event files of a folder; a pipe of such a name would block its reader for ever."""
    return sorted(path for path in folder.glob(_FILES) if path.is_file())


def cut(folder: Path, last_step: int) -> None:
    """Removes events after a step, and duplicates, by rewriting the event files."""
    files, events = _paths(folder), read(folder)
    kept: dict[Any, Event] = {}
    for number, event in enumerate(events):
        if event.file_version:
            kept.setdefault("file version", event)
        elif event.step <= last_step:
            tags = tuple(value.tag for value in event.summary.value)
            kept[(event.step, tags) if tags else number] = event
    if len(files) == 1 and len(kept) == len(events):
        return
    partial = folder / f".{files[0].name}"
    with _disk(folder), tf.io.TFRecordWriter(str(partial)) as writer:
        for event in kept.values():
            writer.write(event.SerializeToString())
    # The first file replaces all: a kill in between leaves duplicates, which the next start removes.
    os.replace(partial, files[0])
    for path in files[1:]:
        path.unlink()


def _log_lines(events: Sequence[Event], last_step: int) -> dict[int, list[str]]:
    """The log so far, by step. Lines after the last step that is kept move to that step: they are still true."""
    texts = {}
    for event in events:
        for value in event.summary.value:
            if value.tag == _EVENTS and value.tensor.string_val:
                # The last text of a step contains all of its lines.
                texts[event.step] = value.tensor.string_val[0].decode("utf8", "replace").split("\n\n")
    lines: dict[int, list[str]] = {}
    for step in sorted(texts):
        lines.setdefault(min(step, last_step), []).extend(texts[step])
    return lines
