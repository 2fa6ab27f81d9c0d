"""TensorBoard event files that stay true through kills and resumes.

Every event belongs to a step. What a checkpoint knows of is on the disk before it; what was written after it is cut
away when a run goes on from there, so that curves, pictures and texts have neither gaps nor doubles.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from zoo.errors import BadInput
from zoo.tensorboard import summaries
from zoo.tensorboard.views import EvaluationView

_FILES = "events.out.tfevents.*"
_EVENTS = "events"


class History:
    """Runs `train`, `eval`, `test`, ... below a workdir, with the same tags; what is of all of them in the workdir.

    Args:
        workdir: of the run.
        runs: names of the folders whose steps are those of the training.
        resumed_at: step that the run goes on from, 0 where it was stopped before its first checkpoint; what was written
            after it is removed. None where the run is new: other people's files are left alone.
        final: names of the folders that are written once, at the end, and so anew by a run that is resumed.
    """

    def __init__(self, workdir: Path, runs: Sequence[str], resumed_at: int | None, final: Sequence[str] = ()):
        self._workdir = workdir
        self._writers: dict[str, tf.io.TFRecordWriter] = {}
        # What happened, by the step at which it stands.
        self._happened: dict[int, list[str]] = {}
        if resumed_at is None:
            return
        self._happened = _lines(read(workdir), resumed_at)
        # Before its first step a run writes what it is, each time.
        last = resumed_at or -1
        for folder in (workdir, *(workdir / run for run in runs)):
            if list(folder.glob(_FILES)):
                cut(folder, last)
        for run in final:
            for path in (workdir / run).glob(_FILES):
                path.unlink()

    def scalars(self, run: str, step: int, values: Mapping[str, float]) -> None:
        """Adds one point to each curve of a run."""
        self._write(run, step, [summaries.scalar(tag, value) for tag, value in values.items()])

    def view(self, run: str, step: int, view: EvaluationView) -> None:
        """Pictures, texts and precision-recall curves of one evaluation."""
        self._write(run, step, summaries.of_view(view))

    def histograms(self, run: str, step: int, arrays: Mapping[str, Any]) -> None:
        """The distribution of each array's numbers."""
        self._write(run, step, [summaries.histogram(tag, array) for tag, array in arrays.items()])

    def config(self, values: Mapping[str, Any], texts: Mapping[str, str]) -> None:
        """What the run is: its config as hyperparameters to compare runs by, and texts as they are, by tag."""
        # In the workdir itself: TensorBoard looks for a session's metrics in the folders below it.
        # The folder is what a user knows a run by.
        session = summaries.hyperparameters(values, name=str(self._workdir))
        shown = ("\n".join(f"    {line}" for line in text.splitlines()) for text in texts.values())
        self._write("", 0, [session, *map(summaries.text, texts, shown)])

    def graphs(self, run: str, operations: bytes, layers: str) -> None:
        """What is computed.

        Args:
            run: the folder.
            operations: a GraphDef; b"" for none.
            layers: a Keras model as JSON.
        """
        self._write(run, 0, [summaries.keras_graph(layers)])
        if operations:
            self._add(run, Event(wall_time=time.time(), step=0, graph_def=operations))

    def happened(self, step: int, what: str) -> None:
        """Adds a line to what happened to the run; all lines of a step are one text."""
        lines = self._happened.setdefault(step, [])
        lines.append(f"step {step:,}: {what}")
        # One line of Markdown each.
        self._write("", step, [summaries.text(_EVENTS, "\n\n".join(lines))])

    def flush(self) -> None:
        """Brings all points to the file; before a checkpoint, so that a resumed run finds no gap."""
        with _disk(self._workdir):
            for writer in self._writers.values():
                writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

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
    """A full disk is one line, not a traceback of the writer's."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise BadInput(f"cannot write TensorBoard's files in {workdir}: {str(error).splitlines()[0]}") from error


def read(folder: Path) -> list[Event]:
    """All whole events of a folder, in the order of its files; a torn end is left out."""
    events = []
    for path in sorted(folder.glob(_FILES)):
        try:
            for record in tf.data.TFRecordDataset(str(path)):
                events.append(Event.FromString(record.numpy()))
        except tf.errors.DataLossError:
            continue  # A kill tore the last record; those before it are read.
    return events


def cut(folder: Path, last_step: int) -> None:
    """Removes what was written after a step, and what stands twice, by writing the events anew."""
    files = sorted(folder.glob(_FILES))
    events = read(folder)
    kept: dict[Any, Event] = {}
    for number, event in enumerate(events):
        if event.file_version:
            kept.setdefault("file version", event)
        elif event.step <= last_step:
            tags = tuple(value.tag for value in event.summary.value)
            kept[(event.step, tags) if tags else number] = event
    if len(files) == 1 and len(kept) == len(events):
        return
    aside = folder / f".{files[0].name}"
    with _disk(folder), tf.io.TFRecordWriter(str(aside)) as writer:
        for event in kept.values():
            writer.write(event.SerializeToString())
    # The first file takes the place of all: a kill in between leaves doubles, which the next start removes.
    os.replace(aside, files[0])
    for path in files[1:]:
        path.unlink()


def _lines(events: Sequence[Event], last_step: int) -> dict[int, list[str]]:
    """What happened so far. What did after the last step that is kept now stands at that step: it did happen."""
    texts = {}
    for event in events:
        for value in event.summary.value:
            if value.tag == _EVENTS:
                # The last text of a step holds all of its lines.
                texts[event.step] = value.tensor.string_val[0].decode("utf8").split("\n\n")
    found: dict[int, list[str]] = {}
    for step in sorted(texts):
        found.setdefault(min(step, last_step), []).extend(texts[step])
    return found
