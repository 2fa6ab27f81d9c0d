"""Graceful stop on SIGTERM and Ctrl-C: the loop checks for a signal between two calls and saves before it ends."""

import contextlib
import signal
import threading
from collections.abc import Iterator

from zoo.errors import Stopped


class Interrupt:
    """Holds the signal that asked the run to stop, 0 without one."""

    def __init__(self):
        self.signal = 0

    def raise_if_asked(self, step: int) -> None:
        """Ends the run if a signal came; its state must have been saved.

        Raises:
            Stopped: its exit code is 128 + the signal.
        """
        if self.signal:
            name = signal.Signals(self.signal).name
            raise Stopped(f"{name}: saved at step {step}; the same command goes on from there", self.signal)


@contextlib.contextmanager
def watched() -> Iterator[Interrupt]:
    """Catches the first SIGTERM or SIGINT; the second has its usual effect."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt  # Python allows handlers in the main thread only.
        return
    before = {}

    def remember(number, frame):
        interrupt.signal = number
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, remember)
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
