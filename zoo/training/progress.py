"""Progress of a run on stderr: a progress bar on a terminal, plain lines elsewhere."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping

from tqdm import tqdm


class Progress:
    """Reports steps, loss, examples per second and the time left.

    Args:
        total: steps of the whole run.
        done: steps done before, by the checkpoint that the run resumes from.
    """

    def __init__(self, total: int, done: int):
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True, file=sys.stderr)
        self._total = total

    def advance(self, steps: int, loss: float, examples_per_second: float) -> None:
        """Advances the bar after a call of the compiled loop."""
        if self._bar is not None:
            with self._reachable():
                self._bar.set_postfix_str(f"loss {loss:.4f}, {examples_per_second:,.0f} examples/s", refresh=False)
                self._bar.update(steps)

    def go_back(self, step: int) -> None:
        """Sets the bar back to a step."""
        if self._bar is not None:
            with self._reachable():
                self._bar.update(step - self._bar.n)

    def line(self, step: int, run: str, metrics: Mapping[str, float]) -> None:
        """Prints the metrics of a step in one line."""
        shown = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self.say(f"step {step:,}/{self._total:,}  {run}: {shown}")

    def say(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        with self._reachable():
            if self._bar is not None:
                self._bar.write(text, file=sys.stderr)
            else:
                print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            with self._reachable():
                self._bar.close()

    @contextlib.contextmanager
    def _reachable(self) -> Iterator[None]:
        """Goes on where nobody reads any more: a closed terminal or pipe must not end a run."""
        try:
            yield
        except OSError:
            # What is left in the buffer would fail again and again.
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115
            self._bar = None


class Clock:
    """Measures the time spent training, without evaluation and checkpoints."""

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
