"""What signals ask a run for: a graceful stop, a stop at once, or a checkpoint.

SIGINT (Ctrl-C), SIGTERM, SIGHUP   the loop saves between two calls and ends; where nothing is to be saved, at once
the second of them                 ends at once; the run goes on from its newest checkpoint
SIGUSR1                            the loop saves and goes on, as before a time limit of Slurm

A signal that the process was started to ignore (SIGHUP under nohup) stays ignored.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from zoo.errors import Stopped

_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SAVE = signal.SIGUSR1


class _AtOnce(BaseException):
    """Unwinds the stack; not an Exception, so that no library takes it for an error of its own."""


class Request(NamedTuple):
    """What is asked of all workers between two calls of the engine.

    Attributes:
        signal: the signal that asks the run to stop; 0 without one.
        by: the worker that received it; empty for this one.
        wants_save: whether a checkpoint is asked for.
        steps: steps of the next call.
    """

    signal: int
    by: str
    wants_save: bool
    steps: int

    def stopped(self, step: int) -> Stopped:
        """The error that ends a run whose state has been saved at this step."""
        name = f"{signal.Signals(self.signal).name}{f' to {self.by}' if self.by else ''}"
        return Stopped(f"{name}: saved at step {step}; the same command goes on from there", self.signal)


class Interrupt:
    """Holds what signals asked for.

    Attributes:
        signal: the last signal that asked the run to stop; 0 without one.
        wants_save: whether a checkpoint is asked for.
        saves_first: whether a first signal waits until the loop has saved; else it ends the run at once.
        saved_step: returns the step of the newest checkpoint, None before the first.
    """

    def __init__(self):
        self.signal = 0
        self.wants_save = False
        self.saves_first = False
        self.saved_step: Callable[[], int | None] = lambda: None
        self._ends_at_once = False

    def receive(self, number: int) -> None:
        """Takes a signal; runs in the main thread, between two instructions of Python."""
        if number == _SAVE:
            self.wants_save = True
            return
        is_second, self.signal = bool(self.signal), number
        if is_second or not self.saves_first:
            self._end()

    def nothing_to_save(self) -> None:
        """From here on a first signal ends the run at once, also one that came and has not been answered."""
        self.saves_first = False
        if self.signal:
            self._end()

    @contextlib.contextmanager
    def ends(self) -> Iterator[None]:
        """Turns the stop at once into an error with one line, whatever a library has made of it on the way."""
        try:
            yield
        except BaseException as error:
            if not self._ends_at_once or isinstance(error, Stopped):
                raise
            step = self.saved_step()
            rest = "no step was saved, the same command starts again"
            if step is not None:
                rest = f"the same command goes on from step {step:,}"
            name = signal.Signals(self.signal).name
            raise Stopped(f"{name}: stopped at once; {rest}", self.signal) from None

    def _end(self) -> None:
        self._ends_at_once = True
        # One more ends the process whatever it is doing.
        for number in _STOPS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        raise _AtOnce


@contextlib.contextmanager
def watched() -> Iterator[Interrupt]:
    """Receives signals for an `Interrupt` inside the block.

    Raises:
        Stopped: a signal ended the block at once.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt  # Python allows handlers in the main thread only.
        return
    terminals = [stream.fileno() for stream in (sys.__stdout__, sys.__stderr__) if stream and _is_terminal(stream)]

    def receive(number, frame):
        if number == signal.SIGHUP:
            _drop_closed(terminals)
        interrupt.receive(number)

    before = {number: signal.getsignal(number) for number in (*_STOPS, _SAVE)}
    # Neither what is ignored, nor a handler in C, which could not be put back.
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, receive)
        with interrupt.ends():
            yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_terminal(stream) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # It is closed.
        return False


def _drop_closed(terminals: list[int]) -> None:
    """Discards what is printed from now on to a terminal that is gone: an error there would end the save."""
    for descriptor in terminals:
        if not os.isatty(descriptor):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
