"""SIGTERM and Ctrl-C as a question that the loop asks between two calls, not as an exception anywhere."""

import contextlib
import signal
import threading
from collections.abc import Iterator

from zoo.errors import Stopped


class Interrupt:
    """Remembers the signal that asked the run to stop."""

    def __init__(self):
        self.signal = 0

    def raise_if_asked(self, step: int) -> None:
        """Ends the run after its state was saved.

        Raises:
            Stopped: with 128 + the signal as exit code.
        """
        if self.signal:
            name = signal.Signals(self.signal).name
            raise Stopped(f"{name}: saved at step {step}; the same command goes on from there", self.signal)


@contextlib.contextmanager
def watched() -> Iterator[Interrupt]:
    """Catches the first SIGTERM or SIGINT; a second one does what it always did."""
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
