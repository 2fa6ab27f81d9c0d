"""Runs contenders side by side: each in its own process, in turn, round after round.

A machine's speed drifts by more than contenders differ (other tenants, heat), so each round measures each contender
once, within seconds of the others, and contenders are compared within rounds only.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

_ROOT = Path(__file__).parents[2]
# Seconds between two turns, for prefetching and spinning threads of the last contender to come to rest.
_PAUSE = 0.1
_ENVIRONMENT = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}


@dataclasses.dataclass(frozen=True)
class Contender:
    """A contender: what one worker runs.

    Attributes:
        name: name in tables and in `--contenders`.
        group: name of the library; the best contender of each group is reported.
        place: `module.function` below `benchmarks` that makes the worker's `Training`.
        options: keyword arguments of that function, in addition to the race's.
        python: name of the interpreter that runs it.
        install: command that installs its dependencies.
    """

    name: str
    group: str
    place: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    python: str = "engine"
    install: str = "pip install -e ."


@dataclasses.dataclass
class Result:
    """Figures of a contender in one race; `problem` says why there are none."""

    contender: str
    group: str
    options: dict[str, Any]
    problem: str = ""
    first_step_seconds: float = 0.0
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    chunks: list[dict[str, float]] = dataclasses.field(default_factory=list)


class Unfit(Exception):
    """A contender cannot run; the text says why."""


def run(
    contenders: Sequence[Contender],
    options: Mapping[str, Any],
    pythons: Mapping[str, str],
    rounds: int,
    seconds: float,
) -> list[Result]:
    """Starts all workers one by one, then lets each run a chunk per round.

    Args:
        contenders: in the order of the first round; each later round starts one further on.
        options: keyword arguments for every contender.
        pythons: interpreters by the names that contenders use.
        rounds: chunks of each contender.
        seconds: intended length of a chunk.

    Returns:
        One result per contender, in the same order.
    """
    results, running = [], []
    with contextlib.ExitStack() as stack:
        for contender in contenders:
            result = Result(contender.name, contender.group, {**options, **contender.options})
            results.append(result)
            try:
                worker = _Worker(contender, result, pythons[contender.python], seconds)
                stack.callback(worker.stop)
                worker.start()
                running.append(worker)
                print(f"  {contender.name}: first step after {result.first_step_seconds:.1f} s", flush=True)
            except Unfit as error:
                result.problem = str(error)
                print(f"  {contender.name}: {error}", flush=True)
        for number in range(rounds):
            first = number % max(len(running), 1)
            for worker in running[first:] + running[:first]:
                worker.turn()
            print(f"  round {number + 1} of {rounds}", flush=True)
    return results


class _Worker:
    """The parent's side of a contender's process."""

    def __init__(self, contender: Contender, result: Result, python: str, seconds: float):
        self._contender = contender
        self._result = result
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed by stop()
        module, function = contender.place.rsplit(".", 1)
        command = [python, "-m", "benchmarks.harness.worker", f"benchmarks.{module}", function]
        path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._started = time.time()
        try:
            self._process = subprocess.Popen(
                [*command, json.dumps(result.options), str(seconds)],
                cwd=_ROOT,
                env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
            )
        except OSError as error:
            raise Unfit(f"not installed: no interpreter {python} ({error.strerror}); {contender.install}") from error

    def start(self) -> None:
        """Waits until the contender is warmed up."""
        answer = self._answer()
        if "missing" in answer:
            raise Unfit(f"not installed: no module {answer['missing']}; {self._contender.install}")
        self._result.first_step_seconds = answer["first_step_at"] - self._started
        self._result.versions = self._answer()["versions"]

    def turn(self) -> None:
        """Runs one chunk; a contender that fails is left out from then on."""
        if self._result.problem:
            return
        time.sleep(_PAUSE)
        try:
            print("run", file=self._process.stdin, flush=True)
            self._answer()
            started, busy = time.perf_counter(), _busy_seconds()
            chunk = self._answer()
        except (Unfit, OSError) as error:
            self._result.problem = str(error)
            return
        capacity = (time.perf_counter() - started) * psutil.cpu_count()
        others = (_busy_seconds() - busy - chunk["cpu_seconds"]) / capacity
        # The kernel counts in hundredths of a second, so a quiet machine may come out a little below 0.
        self._result.chunks.append({**chunk, "others_cpu_share": max(others, 0.0)})

    def stop(self) -> None:
        """Kills the process."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        self._errors.seek(0)
        last = [text.strip() for text in self._errors if text.strip()][-1:]
        raise Unfit(f"failed with exit code {code}: {''.join(last)[:300]}")


def _busy_seconds() -> float:
    """CPU time that all processes of the machine have used."""
    times = psutil.cpu_times()
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
