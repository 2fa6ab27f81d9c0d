"""TensorBoard summaries of a run, and when they are written.

Connects the engine, which knows no file, to the event files, which know no engine:

engine.train, evaluate_with_outputs -> metrics --------------------> History.scalars
evaluate_with_outputs -> outputs -> experiment.visualize ----------> History.view
inspection -> weights, gradients, graph ---------------------------> History.histograms, .graphs
experiment.projector_points -> ProjectorPoints --------------------> projector.write
events of the run (resumed, stopped, not finite, ...) -------------> History.happened
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from zoo import config as configs
from zoo.engine.engine import Engine
from zoo.engine.inspection import Inspection
from zoo.engine.optimizers import describe
from zoo.engine.private_apis import traced_step
from zoo.experiment import Experiment
from zoo.metrics import evaluation_report
from zoo.metrics.evaluation_report import Arrays
from zoo.tensorboard import projector
from zoo.tensorboard.event_files import History
from zoo.tensorboard.own_summaries import OwnSummaries
from zoo.training import model_file

_MEGABYTE = 1 << 20


class TensorBoardWriter:
    """Writes TensorBoard summaries; does nothing before `open`, which only the chief calls."""

    def __init__(self, config: configs.Config, experiment: Experiment, engine: Engine, workdir: Path):
        self._config, self._experiment, self._engine, self._workdir = config, experiment, engine, workdir
        self._inspection = Inspection(engine)
        self._history: History | None = None
        self._events: list[tuple[int, str]] = []
        self._window = configs.steps_range(config.profile)
        self._profiling = False

    @property
    def is_open(self) -> bool:
        return self._history is not None

    def open(self, begun: bool, step: int) -> None:
        """Opens the files.

        Args:
            begun: whether the run resumes; points after `step` are then removed.
            step: step that the run starts from.
        """
        runs, final = ["train", *self._experiment.evals], list(self._experiment.tests)
        self._history = History(self._workdir, runs, step if begun else None, final)
        if not step:
            self._begin()
        for at, what in self._events:
            self._history.happened(at, what)

    def tell(self, step: int, what: str) -> None:
        """Records an event of the run."""
        if self._history is None:
            self._events.append((step, what))
        else:
            self._history.happened(step, what)

    def go_back(self, step: int) -> None:
        """Removes the points after a step that the run goes back to."""
        if self._history is not None:
            self._history.go_back(["train", *self._experiment.evals], step)

    def scalars(self, run: str, step: int, metrics: Mapping[str, float]) -> None:
        """Adds points to the curves of a run, without bounds of intervals and cells of the confusion matrix."""
        if self._history is not None:
            bounds = {
                bound
                for name, _ in evaluation_report.lows(metrics)
                for bound in (name, f"{name.removesuffix('_low')}_high")
            }
            curves = {n: v for n, v in metrics.items() if n not in bounds and not n.startswith("confusion/")}
            self._history.scalars(run, step, curves)

    def own(self, run: str, step: int) -> OwnSummaries:
        """A writer for summaries of the user's own."""
        return OwnSummaries(self._history, run, step)

    def state(self, step: int) -> float:
        """Adds points of the layers' weight norms and the memory; returns the norm of all weights."""
        squares = self._inspection.squares()
        if self._history is not None:
            norms = {f"weight_norm/{layer}": value**0.5 for layer, value in squares.items()}
            self._history.scalars("train", step, norms | memory())
        return sum(squares.values()) ** 0.5

    def look(self, run: str, step: int, evaluations: int, outputs: Arrays, columns: Arrays, last: bool) -> None:
        """Writes the visualizations of an evaluation if `--show` asks for them now.

        Args:
            run: name of the data set.
            step: current step.
            evaluations: number of evaluations so far, this one included.
            outputs: the model's outputs `[examples, ...]` by name.
            columns: the data set's columns `[examples, ...]` by name.
            last: whether this is the last evaluation.
        """
        if self._history is None or self._experiment.visualize is None:
            return
        power_of_four = evaluations.bit_count() == 1 and evaluations.bit_length() % 2 == 1
        due = {"auto": last or power_of_four, "evaluations": True, "end": last, "none": False}
        if due[self._config.show]:
            self._history.view(run, step, self._experiment.visualize(outputs, columns))

    def histograms(self, step: int, batch: int) -> None:
        """Writes histograms of the weights and of the next step's gradient, and the gradient norm of each layer.

        Args:
            step: current step.
            batch: number of the batch that the next step reads.
        """
        if self._history is None:
            return
        gradients = self._inspection.gradients(self._experiment.train, batch)
        arrays = {f"weights/{name}": value for name, value in self._inspection.weights().items()}
        arrays |= {f"gradients/{name}": value for name, value in gradients.items()}
        # A gradient that is not finite has no histogram; the engine reports it.
        self._history.histograms("train", step, {n: v for n, v in arrays.items() if np.isfinite(v).all()})
        squares: dict[str, float] = {}
        for name, value in gradients.items():
            layer = name.partition("/")[0]
            squares[layer] = squares.get(layer, 0.0) + float(np.sum(np.square(value, dtype=np.float64)))
        self._history.scalars("train", step, {f"gradient_norm/{layer}": v**0.5 for layer, v in squares.items()})

    def points(self) -> None:
        """Writes feature vectors of some examples for the projector, from the exported weights."""
        if self._history is not None and self._config.projector and self._experiment.projector_points is not None:
            run = next(iter(self._experiment.evals), "train")
            projector.write(self._workdir / run, self._experiment.projector_points(self._config.projector))

    def until_profile(self, step: int) -> int | None:
        """Steps until the profiler starts or stops; None if it does neither any more."""
        ahead = [edge - step for edge in self._window or () if edge > step]
        return min(ahead) if ahead else None

    @contextlib.contextmanager
    def profiled(self, step: int):
        """Profiles the engine's calls in the steps of `--profile`, into the folder of the run `train`."""
        inside = self._history is not None and bool(self._window) and self._window[0] <= step < self._window[1]
        if inside and not self._profiling:
            tf.profiler.experimental.start(str(self._workdir / "train"))
        elif self._profiling and not inside:
            tf.profiler.experimental.stop()
        self._profiling = inside
        with traced_step(step) if inside else contextlib.nullcontext():
            yield

    def flush(self) -> None:
        if self._history is not None:
            self._history.flush()

    def close(self) -> None:
        if self._profiling:
            tf.profiler.experimental.stop()
            self._profiling = False
        if self._history is not None:
            self._history.close()
            self._history = None

    def _begin(self) -> None:
        """Writes the config, the model, and the groups of variables with their optimizers."""
        groups = describe(self._engine.model, self._engine.groups)
        self._history.config(configs.as_dict(self._config), {"config": self._config.flags(), "groups": groups})
        operations = self._inspection.graph(self._experiment.train) if self._config.graph else b""
        self._history.graphs("train", operations, model_file.as_json(self._experiment.model))


def memory() -> dict[str, float]:
    """Megabytes held by the process, and by TensorFlow on each GPU."""
    megabytes = {}
    with contextlib.suppress(OSError):  # On Linux only; elsewhere the curve is missing.
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        megabytes["memory_mb/process"] = pages * os.sysconf("SC_PAGE_SIZE") / _MEGABYTE
    for device in tf.config.list_logical_devices("GPU"):
        number = device.name.rpartition(":")[2]
        megabytes[f"memory_mb/gpu{number}"] = (
            tf.config.experimental.get_memory_info(f"GPU:{number}")["current"] / _MEGABYTE
        )
    return megabytes
