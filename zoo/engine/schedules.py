"""Learning-rate schedules.

They are Keras schedules, evaluated in the graph at the optimizer's iteration, and so resume with the optimizer. Steps
count from 0; the rate stays at its final value after `decay_steps`.
"""

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from zoo.errors import BadInput

NAMES = (
    "constant",
    "linear",
    "cosine",
    "cosine_restarts",
    "one_cycle",
    "warmup_stable_decay",
    "step",
    "exponential",
    "polynomial",
    "inverse_sqrt",
    "slanted_triangular",
)
# Share of the steps in which one_cycle rises; its first and its last rate / peak.
_ONE_CYCLE_UP, _ONE_CYCLE_START, _ONE_CYCLE_END = 0.3, 1 / 25, 1 / 25 / 1e4

# From the steps after the warm-up, or the done fraction of them, to rate / peak.
Shape = Callable[[tf.Tensor], tf.Tensor]


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate as a function of the step, after a linear warm-up, times a factor for a group of variables."""

    def __init__(
        self,
        rate: Callable[[tf.Tensor], tf.Tensor],
        warmup_steps: int = 0,
        factor: float = 1.0,
        start: int = 0,
        times: int = 1,
    ):
        self.rate = rate
        self.warmup_steps = warmup_steps
        self.factor = factor
        self.start = start
        self.times = times

    def __call__(self, step) -> tf.Tensor:
        """The float32 rate of a step; the warm-up ends at the schedule's first value."""
        step = tf.cast(step, tf.float32)
        if self.times > 1:
            step = tf.math.floor(step / self.times)
        rate = self.rate(tf.maximum(step - self.warmup_steps, 0.0))
        if self.warmup_steps:
            # (step + 1): the first step already learns (Goyal et al., 2017, section 2.2).
            rate *= tf.minimum((step + 1.0) / self.warmup_steps, 1.0)
        rate *= self.factor
        return tf.where(step >= self.start, rate, tf.zeros_like(rate)) if self.start else rate

    def scaled(self, factor: float, start: int = 0) -> "Schedule":
        """The same schedule for a group of variables, times `factor`, and 0 before the step `start`."""
        return Schedule(self.rate, self.warmup_steps, self.factor * factor, start, self.times)

    def repeated(self, times: int) -> "Schedule":
        """The same schedule for an optimizer that is applied several times in each step."""
        return Schedule(self.rate, self.warmup_steps, self.factor, self.start, times)

    def get_config(self):
        # Incomplete: no file stores a schedule, as the run's flags make it again.
        return {"warmup_steps": self.warmup_steps, "factor": self.factor, "start": self.start, "times": self.times}


def make(
    name: str,
    peak: float,
    *,
    decay_steps: int,
    warmup_steps: int = 0,
    final_fraction: float = 0.0,
    decay_rate: float = 0.1,
    decay_every: int = 0,
    power: float = 2.0,
    cooldown_fraction: float = 0.2,
    cycles: int = 4,
    cycle_factor: float = 2.0,
) -> Schedule:
    """Makes a schedule.

    Args:
        name: one of `NAMES`.
        peak: learning rate at the end of the warm-up.
        decay_steps: step at which the final rate is reached, warm-up included.
        warmup_steps: steps of linear warm-up; 0 means a tenth of the decay for slanted_triangular, else none. Those of
            one_cycle rise along a cosine; 0: 0.3 of all.
        final_fraction: final rate / peak, for the schedules that end at one. 0: 1/32 of slanted_triangular, 4e-6 of
            one_cycle.
        decay_rate: factor per `decay_every` steps, for step and exponential.
        decay_every: steps per factor `decay_rate`; 0 for a third of the decay.
        power: exponent of the polynomial schedule.
        cooldown_fraction: share of the steps after the warm-up in which warmup_stable_decay falls.
        cycles: number of falls from the peak of cosine_restarts.
        cycle_factor: length of each of them / that of the one before.

    Raises:
        BadInput: an unknown name, or a warm-up longer than the schedule.
    """
    if name not in NAMES:
        raise BadInput(f"--schedule is {name!r}: expected one of {', '.join(NAMES)}")
    if warmup_steps >= decay_steps > 0:
        raise BadInput(f"--warmup_steps is {warmup_steps}: expected less than the {decay_steps} steps of the schedule")
    if name == "slanted_triangular":
        # ULMFiT, section 3.2 (Howard and Ruder, 2018): a tenth of the steps up, then down to 1/32 of the peak.
        warmup_steps = warmup_steps or max(decay_steps // 10, 1)
        final_fraction = final_fraction or 1 / 32
    if name == "one_cycle":
        shape = _one_cycle(max(decay_steps, 1), warmup_steps, final_fraction or _ONE_CYCLE_END)
        return Schedule(lambda step: peak * shape(step))
    length = float(max(decay_steps - warmup_steps, 1))
    every = float(decay_every or math.ceil(length / 3))
    origin = float(max(warmup_steps, 1))

    def falling(shape: Shape) -> Shape:
        """From 1 to the final fraction; `shape` maps the done fraction of the decay to 1 .. 0."""
        return lambda step: final_fraction + (1 - final_fraction) * shape(tf.minimum(step / length, 1.0))

    shapes = {
        "constant": lambda step: tf.ones_like(step),
        "linear": falling(lambda done: 1.0 - done),
        "slanted_triangular": falling(lambda done: 1.0 - done),
        # SGDR, section 3 (Loshchilov and Hutter, 2017), without restarts.
        "cosine": falling(_half_cosine),
        "cosine_restarts": falling(_restarts(cycles, cycle_factor)),
        "warmup_stable_decay": falling(_cooldown(cooldown_fraction)),
        "polynomial": falling(lambda done: (1.0 - done) ** power),
        "step": lambda step: decay_rate ** tf.floor(step / every),
        "exponential": lambda step: decay_rate ** (step / every),
        # "Attention is all you need", section 5.3 (Vaswani et al., 2017), scaled to 1 at the end of the warm-up.
        "inverse_sqrt": lambda step: tf.math.rsqrt(1.0 + step / origin),
    }
    shape = shapes[name]
    return Schedule(lambda step: peak * shape(step), warmup_steps)


def _half_cosine(done: tf.Tensor) -> tf.Tensor:
    return 0.5 * (1.0 + tf.cos(math.pi * done))


def _one_cycle(length: int, up: int, end: float) -> Shape:
    """Up along a half cosine, then down along another one.

    Smith and Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2019, with
    the two cosines and the numbers of fastai and PyTorch. The momentum stays as it is.
    """
    up_steps = float(up or max(round(_ONE_CYCLE_UP * length), 1))

    def shape(step: tf.Tensor) -> tf.Tensor:
        rising = 1.0 - (1.0 - _ONE_CYCLE_START) * _half_cosine(tf.minimum(step / up_steps, 1.0))
        done = tf.clip_by_value((step - up_steps) / max(length - up_steps, 1.0), 0.0, 1.0)
        return tf.where(step < up_steps, rising, end + (1.0 - end) * _half_cosine(done))

    return shape


def _restarts(cycles: int, factor: float) -> Shape:
    """Several half cosines, each longer by a factor than the one before (SGDR, section 3)."""
    lengths = [factor**number for number in range(cycles)]
    ends = [sum(lengths[: number + 1]) / sum(lengths) for number in range(cycles)]
    starts = [0.0, *ends[:-1]]

    def shape(done: tf.Tensor) -> tf.Tensor:
        result = tf.zeros_like(done)
        for start, end in zip(starts, ends, strict=True):
            # The end of the last one is the end of the schedule.
            inside = (done >= start) & ((done < end) | (end == ends[-1]))
            result = tf.where(inside, _half_cosine((done - start) / (end - start)), result)
        return result

    return shape


def _cooldown(fraction: float) -> Shape:
    """Constant, then down by 1 - sqrt.

    Hu et al., "MiniCPM: unveiling the potential of small language models with scalable training strategies", 2024; the
    shape is the best of Hägele et al., "Scaling laws and compute-optimal training beyond fixed training durations",
    2024, section 3.
    """
    if not fraction:
        return tf.ones_like
    return lambda done: 1.0 - tf.sqrt(tf.maximum((done - (1.0 - fraction)) / fraction, 0.0))
