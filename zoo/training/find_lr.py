"""A learning-rate range test (`--find_lr`): Smith, "Cyclical learning rates for training neural networks", 2017, 3.3.

The experiment's own model is trained for some steps on its own batches, each step with a larger rate, until the loss
explodes: it falls where the rate is large enough to learn, and rises where it is too large. The suggestion is the rate
at which the smoothed loss falls most; benchmarks/find_lr.py compares it with trained networks.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from zoo import config as configs
from zoo import files
from zoo.data.batches import Batches
from zoo.engine import devices
from zoo.engine.engine import Engine
from zoo.engine.scalars import means
from zoo.errors import BadInput
from zoo.experiment import Experiment
from zoo.training import experiment_check, fold_flags, init_from, memory_limits
from zoo.training.progress import Progress

TABLE, PICTURE = "learning_rates.csv", "learning_rates.png"
# From rates at which nothing moves to those that no optimizer bears; with 20 in a decade neighbours differ by 12 %.
RATES = np.geomspace(1e-7, 10.0, 161)
# The smoothed loss is a mean over about the last 20 steps, a decade: with 10, noise looks like a fall.
_MEMORY = 0.95
# Its first values are means of few steps, whose noise looks like a fall.
_FIRST = 20
# The test ends where it is so many times the lowest one.
_EXPLODED = 4.0


class RangeTest(NamedTuple):
    """What the steps of a range test have shown.

    Attributes:
        rates: `[steps]`, the learning rates, rising.
        losses: `[steps]`, mean loss of each step's batch before its update.
        smoothed: `[steps]`, exponential moving average of the losses, without bias.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray

    @property
    def lowest(self) -> int:
        """The step of the lowest smoothed loss."""
        return int(np.argmin(self.smoothed))

    @property
    def suggestion(self) -> float | None:
        """The rate at which the smoothed loss falls most, over the logarithm of the rate; None: it falls at none."""
        if self.lowest <= _FIRST:
            return None
        slopes = np.gradient(self.smoothed, np.log(self.rates))
        return float(self.rates[_FIRST + int(np.argmin(slopes[_FIRST : self.lowest + 1]))])


def run(
    build: Callable[[Any], Experiment],
    config: configs.Config,
    workdir: str | Path,
    make_engine: Callable[..., Engine],
) -> dict[str, float]:
    """Finds a learning rate for what `build(config)` returns, prints it, and writes a table and a picture.

    Args:
        build: makes the model, the task and the data.
        config: config of the run that the rate is for.
        workdir: folder of that run; nothing else is written there.
        make_engine: `zoo.training.run.make_engine`.

    Returns:
        `learning_rate`, the suggestion.

    Raises:
        BadInput: the run has no single learning rate, or the loss falls at none, which the picture then shows.
    """
    if config.seeds > 1 or fold_flags.is_asked(config):
        raise BadInput("--find_lr with --seeds or all folds: a range test is of one run; leave them out")
    workdir = files.absolute(workdir)
    strategy = devices.strategy(config.strategy, config.cpu_devices, config.worker_timeout)
    if not devices.workers(strategy).is_alone:
        raise BadInput("--find_lr with several workers: run it on one of them, without TF_CONFIG")
    with devices.precision(config.precision):
        with strategy.scope(), memory_limits.checked_weights():
            keras.utils.set_random_seed(config.seed)
            experiment = experiment_check.built(build, config)
        if experiment.optimizer is not None or experiment.updates:
            raise BadInput("--find_lr: the experiment has optimizers of its own, which do not read --learning_rate")
        config = experiment.config or config
        if config.optimizer in configs.SECOND_ORDER:
            raise BadInput(
                f"--find_lr with --optimizer={config.optimizer}, whose steps have their own length: the rate is 1"
            )
        memory_limits.check_batch(config, experiment.train)
        engine = make_engine(strategy, without_schedule(config), experiment._replace(config=None), len(RATES))
        progress = Progress(len(RATES), 0)
        try:
            if config.init_from:
                progress.say(init_from.load(engine, config.init_from, experiment))
            tested = measure(engine, experiment.train, progress)
        finally:
            progress.close()
    _write(workdir, tested)
    if tested.suggestion is None:
        raise BadInput(
            f"--find_lr: the loss falls at no learning rate up to {tested.rates[-1]:.2g} ({workdir / PICTURE}); look "
            "at the data and the model, or try rates in short runs"
        )
    progress.say(
        f"the loss falls most at a learning rate of {tested.suggestion:.2g}, and is lowest at "
        f"{tested.rates[tested.lowest]:.2g}: {workdir / PICTURE}\n--learning_rate={tested.suggestion:.2g}"
    )
    return {"learning_rate": float(f"{tested.suggestion:.2g}")}


def measure(engine: Engine, batches: Batches, progress: Progress | None = None) -> RangeTest:
    """Trains with rising rates, and gives the engine its state of before.

    Args:
        engine: has a `rate_level`, and rates of 1 for the largest of its groups.
        batches: training batches.
        progress: shows the steps.
    """
    before, losses, smoothed = engine.state(), [], []
    try:
        for step, rate in enumerate(RATES):
            engine.rate_level.assign(rate)
            metrics = means(engine.train(batches, step, 1))
            losses.append(sum(metrics[name] for name in engine.task.losses if name in metrics))
            smoothed = smooth(losses)
            if not math.isfinite(losses[-1]) or smoothed[-1] > _EXPLODED * min(smoothed):
                break
            if progress is not None:
                progress.advance(1, losses[-1], 0.0)
    finally:
        engine.load(before)
    finite = [number for number, loss in enumerate(losses) if math.isfinite(loss)]
    return RangeTest(RATES[finite], np.array(losses)[finite], smooth(losses)[finite])


def smooth(losses: Sequence[float]) -> np.ndarray:
    """The exponential moving average, divided by the sum of its weights, as in Adam (Kingma and Ba, 2015)."""
    average, averages = 0.0, []
    for count, loss in enumerate(losses, 1):
        average = _MEMORY * average + (1.0 - _MEMORY) * loss
        averages.append(average / (1.0 - _MEMORY**count))
    return np.array(averages)


def without_schedule(config: configs.Config) -> configs.Config:
    """The config with a rate of 1, which the level then multiplies, and nothing that changes it on the way."""
    return config.replace(
        learning_rate=1.0,
        schedule="constant",
        warmup_steps=0,
        warmup_fraction=0.0,
        unfreeze_every=0,
        plateau_patience=0,
        controller=False,
        rate_factors="",
        weight_decays="",
        on_nonfinite="halt",
        skip_spikes=0.0,
        ema=0.0,
        swa=0.0,
        steps=len(RATES),
        epochs=0.0,
        steps_per_loop=1,
    )


def _write(workdir: Path, tested: RangeTest) -> None:
    lines = ["learning_rate,loss,smoothed_loss"]
    lines += [f"{rate:.6g},{loss:.6g},{mean:.6g}" for rate, loss, mean in zip(*tested, strict=True)]
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--workdir {workdir} cannot be written: {error.strerror}; choose another folder") from error
    files.write(workdir / TABLE, "\n".join(lines) + "\n")
    # A second to import; without pyplot, which would keep the figure and choose a window system.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.plot(tested.rates, tested.losses, color="tab:grey", linewidth=0.6, label="loss of a step")
    axes.plot(tested.rates, tested.smoothed, color="tab:blue", label="smoothed")
    if tested.suggestion is not None:
        label = f"{tested.suggestion:.2g}: falls most"
        axes.axvline(tested.suggestion, color="tab:green", linestyle="--", label=label)
    # The first loss and the lowest are what is looked at, not the explosion.
    low, high = float(tested.losses.min()), float(tested.smoothed[: tested.lowest + 1].max())
    span = high - low or 1.0
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss", ylim=(low - 0.2 * span, high + span))
    axes.legend(frameon=False, fontsize="small")
    try:
        figure.savefig(workdir / PICTURE, format="png")
    except OSError as error:
        raise BadInput(f"cannot write {workdir / PICTURE}: {error}") from error
