"""Lowers the learning rate where the metric has stopped improving (`--plateau_patience`)."""

import dataclasses

from zoo.config import Config


@dataclasses.dataclass
class Plateau:
    """What the rule remembers between evaluations.

    Attributes:
        value: the best value of the metric; None before the first evaluation.
        since: evaluations without a better one since then, or since the rate was lowered.
        rest: evaluations that are left of the time after a change in which none is counted.
    """

    value: float | None = None
    since: int = 0
    rest: int = 0

    def is_over(self, value: float, config: Config) -> bool:
        """Takes the value of one evaluation: whether the rate is to be lowered now.

        The rule is that of `keras.callbacks.ReduceLROnPlateau`.
        """
        if self.rest:
            self.rest, self.since = self.rest - 1, 0
        if self._is_better(value, config):
            self.value, self.since = value, 0
            return False
        if self.rest:
            return False
        self.since += 1
        return self.since >= config.plateau_patience

    def restart(self, config: Config) -> None:
        """After the rate was lowered."""
        self.since, self.rest = 0, config.plateau_cooldown

    def _is_better(self, value: float, config: Config) -> bool:
        if self.value is None:
            return True
        gain = value - self.value if config.larger_is_better else self.value - value
        return gain > config.plateau_min_delta


def lowered(level: float, config: Config) -> float:
    """The next factor of the learning rate; not below `--plateau_floor`, and never above the present one."""
    return min(level, max(level * config.plateau_factor, config.plateau_floor))
