"""How much processor time a step takes, as a multiple of a step of plain Adam: it does not depend on other load."""

import statistics
import time
from collections.abc import Callable
from typing import Any

from zoo import config as configs
from zoo.engine import devices
from zoo.training.run import make_engine

# In turn, so that what slows the processor slows both.
_PAIRS = 5
# Steps of second order are a hundred times as long.
_STEPS, _LONG_STEPS = 50, 4


class Pace:
    """Steps of one choice after the other, each in turn with steps of plain Adam.

    Args:
        build: the experiment's `build`.
        plain: config of plain Adam.
    """

    def __init__(self, build: Callable, plain: configs.Config):
        self._build = build
        self._plain = _trainer(build, plain, _STEPS)

    def ratio(self, config: configs.Config) -> float:
        """Processor time of a step / that of a step of plain Adam: the median of several pairs, all threads counted."""
        steps = _LONG_STEPS if config.optimizer in configs.SECOND_ORDER else _STEPS
        own = _trainer(self._build, config, steps)
        return statistics.median(own() / self._plain() for _ in range(_PAIRS))


def _trainer(build: Callable, config: Any, steps: int) -> Callable[[], float]:
    """A function that trains `steps` more steps and returns the processor seconds of one of them; compiled before."""
    strategy = devices.strategy()
    with strategy.scope():
        experiment = build(config)
    engine, done = make_engine(strategy, config, experiment, config.steps), 0

    def train() -> float:
        nonlocal done
        began = time.process_time()
        engine.train(experiment.train, done, steps)
        done += steps
        return (time.process_time() - began) / steps

    train()
    return train
