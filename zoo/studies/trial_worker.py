"""The process that trains the trials of a sweep, one after the other: a crash in it is a failed trial.

It starts TensorFlow once, which takes 8 s. Requests come as JSON lines on stdin, replies leave as JSON lines on stdout;
what a trial prints goes to a file in its folder. Where stdin ends, because the sweep's process has died, the run saves
and ends, as after SIGTERM.

request                                             replies
{"check": words, "space": text, "sampler": name}    {"config": ..., "metric": ..., "larger": bool, "space": [...]}
{"trial": words, "folder": path}                    any number of {"evaluation": n, "value": x}, each of them answered
                                                    by {"end": bool}; then {"metric": tag, "values": [...]}
{"test": words, "folder": path}                     {"result": metrics}

and instead of the last one {"failed": line, "kind": name of the error}, {"pruned": line} or {"stopped": line}.
"""

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from zoo import config as configs
from zoo import config_flags, strict_json
from zoo import workdir as folders
from zoo.errors import Stopped, ZooError, unforeseen
from zoo.studies import experiment_module, space, trial
from zoo.studies.experiment_module import ExperimentModule
from zoo.studies.trial import Pruned

# What a trial prints, in its folder.
LOG = "log.txt"
# Seconds that an earlier worker of a sweep that was killed may take to save, and between two looks.
_PATIENCE, _PAUSE = 120.0, 0.5

Reply = dict[str, Any]


def main(name: str) -> None:
    """Serves requests until stdin ends.

    Args:
        name: the experiment, see `experiment_module.load`.
    """
    replies = os.fdopen(os.dup(1), "w")
    # What a library prints to stdout is no reply.
    os.dup2(2, 1)
    requests = _Requests(sys.stdin)

    def send(reply: Reply) -> None:
        print(strict_json.dumps(reply), file=replies, flush=True)

    experiment: ExperimentModule | None = None
    while (request := requests.next()) is not None:
        requests.is_busy = True
        try:
            experiment = experiment or experiment_module.load(name)
            reply = answer(experiment, request, send, lambda: bool((requests.next() or {}).get("end")))
        except BaseException as error:
            reply = problem(error)
        requests.is_busy = False
        send(reply)


def answer(
    experiment: ExperimentModule, request: dict[str, Any], send: Callable[[Reply], None], shall_end: Callable[[], bool]
) -> Reply:
    """Does what a request asks for.

    Args:
        experiment: the experiment.
        request: what is asked for, in one of the forms that the module describes.
        send: sends a reply that is not the last one.
        shall_end: the answer to an evaluation that was sent.

    Raises:
        ZooError: it failed, was pruned or stopped.
    """
    if "check" in request:
        return _checked(experiment, request["check"], request["space"], request["sampler"])
    folder = Path(request["folder"])
    if "test" in request:
        with _printing_to(folder):
            return {"result": trial.test(experiment.build, experiment.config(request["test"]), folder)}

    def report(evaluation: int, value: float) -> bool:
        send({"evaluation": evaluation, "value": value})
        return shall_end()

    # Another worker, whose sweep has died, may still be saving.
    waited = 0.0
    while folders.is_owned(folder) and waited < _PATIENCE:
        time.sleep(_PAUSE)
        waited += _PAUSE
    with _printing_to(folder):
        outcome = trial.run(experiment.build, experiment.config(request["trial"]), folder, report)
    return outcome._asdict()


def problem(error: BaseException) -> Reply:
    """The reply for an error."""
    line = "; ".join([str(error), *getattr(error, "__notes__", ())])
    if isinstance(error, Stopped):
        return {"stopped": line}
    if isinstance(error, Pruned):
        return {"pruned": str(error)}
    if isinstance(error, ZooError):
        return {"failed": line, "kind": type(error).__name__}
    if isinstance(error, SystemExit):
        return {"failed": f"the experiment ended its process with code {error.code}", "kind": "SystemExit"}
    return {"failed": unforeseen(error), "kind": type(error).__name__}


def _checked(experiment: ExperimentModule, words: list[str], text: str, sampler: str) -> Reply:
    """What the sweep must know of the flags; refuses wrong ones, and values of the space that a flag does not take."""
    config = experiment.config(words)
    kinds, aliases = config_flags.kinds(experiment.config_class), experiment_module.aliases(experiment.config_class)
    dimensions = space.checked(space.parse(text), kinds, aliases, sampler)
    for each in dimensions:
        for value in each.edges():
            try:
                experiment.config([*words, f"--{each.name}={value}"])
            except ZooError as error:
                raise type(error)(f"--space has {each.name}={value}: {error}") from None
    return {
        "config": configs.as_dict(config),
        "metric": config.metric,
        "larger": config.larger_is_better,
        "space": [each._asdict() for each in dimensions],
    }


class _Requests:
    """The lines of a stream, read by a thread, so that its end stops a run that is under way."""

    def __init__(self, stream: TextIO):
        self._lines: queue.Queue[str] = queue.Queue()
        self.is_busy = False
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def next(self) -> dict[str, Any] | None:
        """The next request; None at the end."""
        line = self._lines.get()
        return json.loads(line) if line else None

    def _read(self, stream: TextIO) -> None:
        for line in stream:
            self._lines.put(line)
        self._lines.put("")
        if self.is_busy:
            os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _printing_to(folder: Path) -> Iterator[None]:
    """Sends stdout and stderr, those of libraries in C too, to a file of the folder, inside the block."""
    folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    before = os.dup(1), os.dup(2)
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, earlier in zip((1, 2), before):
            os.dup2(earlier, number)
            os.close(earlier)
        os.close(log)


if __name__ == "__main__":
    main(sys.argv[1])
