"""The sweep's side of `trial_worker`: starts the process, sends requests, and notices its death."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from zoo import errors
from zoo.errors import BadInput, Stopped, ZooError
from zoo.training.signals import Interrupt

# Trials after which a new process starts: XLA's programs stay in memory as long as their process, and a start is 8 s.
_TRIALS = 10
# Seconds between two looks at what signals ask for.
_WAIT = 0.2

Reply = dict[str, Any]


class TrialProcess:
    """Runs trials in a process of its own, one after the other.

    Args:
        experiment: name of the experiment's module or file.
        interrupt: what signals asked for.
    """

    def __init__(self, experiment: str, interrupt: Interrupt):
        self._experiment, self._interrupt = experiment, interrupt
        self._process: subprocess.Popen | None = None
        self._done = 0

    def check(self, words: Sequence[str], space: str, sampler: str) -> Reply:
        """Has flags and space checked; see `trial_worker`.

        Raises:
            BadInput: something is wrong in them.
        """
        reply = self._ask({"check": list(words), "space": space, "sampler": sampler}, lambda *_: False)
        if "failed" in reply:
            kind = getattr(errors, reply["kind"], ZooError)
            raise (kind if kind is BadInput else ZooError)(reply["failed"])
        return reply

    def trial(self, words: Sequence[str], folder: Path, shall_end: Callable[[int, float], bool]) -> Reply:
        """Runs a trial, or goes on with it.

        Args:
            words: the flags.
            folder: workdir of the trial.
            shall_end: `shall_end(evaluation, value)`, asked after each evaluation.

        Returns:
            The last reply, see `trial_worker`; `failed` where the process died, too.

        Raises:
            Stopped: a signal asked for it; the trial has saved.
        """
        if self._done == _TRIALS:
            self.close()
        self._done += 1
        return self._ask({"trial": list(words), "folder": str(folder)}, shall_end)

    def test(self, words: Sequence[str], folder: Path) -> Reply:
        """Measures a finished trial on the test split; errors as in `trial`."""
        return self._ask({"test": list(words), "folder": str(folder)}, lambda *_: False)

    def close(self) -> None:
        """Ends the process; one that trains saves first."""
        if self._process is None:
            return
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._notices.close()
        self._process, self._done = None, 0

    def _ask(self, request: dict[str, Any], shall_end: Callable[[int, float], bool]) -> Reply:
        with contextlib.suppress(BrokenPipeError):
            self._send(request)
        for line in self._lines():
            reply = json.loads(line)
            if "evaluation" in reply:
                with contextlib.suppress(BrokenPipeError):
                    self._send({"end": shall_end(reply["evaluation"], reply["value"])})
                continue
            if "stopped" in reply or self._interrupt.signal:
                raise self._stopped(reply.get("stopped", ""))
            return reply
        code, notice = self._process.wait(), self._last_notice()
        self.close()
        if self._interrupt.signal:
            raise self._stopped("")
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        memory = ", as the system does without memory" if code == -signal.SIGKILL else ""
        return {"failed": f"the trial's process {how}{memory}{notice}", "kind": "ProcessEnded"}

    def _last_notice(self) -> str:
        """The last line that the process printed outside of trials, as where Python could not start it."""
        self._notices.seek(0)
        lines = self._notices.read().decode("utf8", "replace").splitlines()
        return f"; its last line: {lines[-1].strip()[:300]}" if lines and "Error" in lines[-1] else ""

    def _send(self, content: dict[str, Any]) -> None:
        if self._process is None:
            # A session of its own, so that Ctrl-C reaches the trial through the sweep only, once.
            command = [sys.executable, "-m", "zoo.studies.trial_worker", self._experiment]
            # TensorFlow's notices at its start; what a trial prints goes to its folder.
            self._notices = tempfile.TemporaryFile()  # noqa: SIM115
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._notices}
            self._process = subprocess.Popen(command, **pipes, start_new_session=True)
        self._process.stdin.write(json.dumps(content).encode() + b"\n")
        self._process.stdin.flush()

    def _lines(self) -> Iterator[bytes]:
        """Lines of the process until it ends; the first signal to the sweep is passed on."""
        pipe, has_told, rest = self._process.stdout.fileno(), False, b""
        while True:
            if self._interrupt.signal and not has_told:
                self._process.send_signal(signal.SIGTERM)
                has_told = True
            if not select.select([pipe], [], [], _WAIT)[0]:
                continue
            part = os.read(pipe, 1 << 16)
            if not part:
                return
            *lines, rest = (rest + part).split(b"\n")
            yield from lines

    def _stopped(self, line: str) -> Stopped:
        number = self._interrupt.signal or signal.SIGTERM
        return Stopped(line or f"{signal.Signals(number).name}: the same command goes on", number)
