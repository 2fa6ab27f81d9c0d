"""TensorBoard event files that stay true through kills and resumes."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from zoo.errors import BadInput

_FILES = "events.out.tfevents.*"


class History:
    """Scalars under the same tags in the runs `train`, `eval`, ... below a workdir, hyperparameters in the workdir.

    Args:
        workdir: of the run.
        runs: names of the run's own folders.
        resumed_at: step that the run goes on from, 0 where it was stopped before its first checkpoint; what was written
            after it is removed. None where the run is new: other people's files are left alone.
    """

    def __init__(self, workdir: Path, runs: Sequence[str], resumed_at: int | None):
        self._workdir = workdir
        self._writers: dict[str, tf.summary.SummaryWriter] = {}
        if resumed_at is not None:
            for folder in (workdir, *(workdir / run for run in runs)):
                if list(folder.glob(_FILES)):
                    cut(folder, resumed_at)

    def scalars(self, run: str, step: int, values: Mapping[str, float]) -> None:
        """Adds one point to each curve of a run."""
        with _disk(self._workdir), self._writer(run).as_default():
            for tag, value in values.items():
                tf.summary.scalar(tag, value, step=step)

    def config(self, values: Mapping[str, Any], text: str) -> None:
        """The run's config: as hyperparameters to compare runs by, and as text."""
        # Here and not above: the plugin is needed once per run and costs every start.
        from tensorboard.plugins.hparams import api as hparams

        plain = {name: value if isinstance(value, (bool, int, float)) else str(value) for name, value in values.items()}
        # In the workdir itself: TensorBoard looks for a session's metrics in the folders below it.
        with _disk(self._workdir), self._writer("").as_default():
            # The folder is what a user knows a run by.
            hparams.hparams(plain, trial_id=str(self._workdir))
            tf.summary.text("config", "\n".join(f"    {line}" for line in text.splitlines()), step=0)

    def flush(self) -> None:
        """Brings all points to the file; before a checkpoint, so that a resumed run finds no gap."""
        with _disk(self._workdir):
            for writer in self._writers.values():
                writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, run: str) -> tf.summary.SummaryWriter:
        if run not in self._writers:
            self._writers[run] = tf.summary.create_file_writer(str(self._workdir / run))
        return self._writers[run]


@contextlib.contextmanager
def _disk(workdir: Path) -> Iterator[None]:
    """A full disk is one line, not a traceback of the writer's."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise BadInput(f"cannot write TensorBoard's files in {workdir}: {str(error).splitlines()[0]}") from error


def read(folder: Path) -> list[tf.compat.v1.Event]:
    """All whole events of a folder, in the order of its files; a torn end is left out."""
    events = []
    for path in sorted(folder.glob(_FILES)):
        try:
            for record in tf.data.TFRecordDataset(str(path)):
                events.append(tf.compat.v1.Event.FromString(record.numpy()))
        except tf.errors.DataLossError:
            continue  # A kill tore the last record; those before it are read.
    return events


def cut(folder: Path, last_step: int) -> None:
    """Removes what was written after a step, and what stands twice, by writing the events anew."""
    files = sorted(folder.glob(_FILES))
    events = read(folder)
    kept: dict[Any, tf.compat.v1.Event] = {}
    for number, event in enumerate(events):
        tags = tuple(value.tag for value in event.summary.value)
        if event.step <= last_step:
            kept[(event.step, tags) if tags else ("file version", 0) if event.file_version else number] = event
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
