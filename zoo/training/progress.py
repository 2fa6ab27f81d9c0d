"""How far the run is: a bar on a terminal, plain lines elsewhere. Always on stderr."""

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm


class Progress:
    """Reports steps, loss, examples per second and the time left.

    Args:
        total: steps of the whole run.
        done: steps that a checkpoint brings.
    """

    def __init__(self, total: int, done: int):
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True, file=sys.stderr)
        self._total = total

    def advance(self, steps: int, loss: float, examples_per_second: float) -> None:
        """After each call of the compiled loop."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.4f}, {examples_per_second:,.0f} examples/s", refresh=False)
            self._bar.update(steps)

    def line(self, step: int, run: str, metrics: Mapping[str, float]) -> None:
        """One line for a point of a run's curves."""
        shown = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self.say(f"step {step:,}/{self._total:,}  {run}: {shown}")

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class Clock:
    """Seconds spent training, evaluation and checkpoints left out."""

    def __init__(self):
        self.seconds = 0.0
        self.examples = 0
        self._started = 0.0

    def __enter__(self) -> "Clock":
        self._started = time.perf_counter()
        return self

    def __exit__(self, *exception) -> None:
        self.seconds += time.perf_counter() - self._started

    def rate(self) -> float:
        """Examples per second since the last call, or since the start."""
        rate = self.examples / self.seconds if self.seconds else 0.0
        self.seconds, self.examples = 0.0, 0
        return rate
