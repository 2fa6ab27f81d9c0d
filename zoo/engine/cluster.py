"""The workers of a run as TF_CONFIG lists them, and how they wait for each other before TensorFlow starts."""

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from zoo.errors import BadInput, WorkerLost

_FORM = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
# Their processes hold replicas; the first chief, else the first worker, writes the files.
_JOBS = ("chief", "worker")
# Seconds between two attempts to reach a worker, and until one attempt is given up.
_PAUSE, _ATTEMPT = 0.2, 1.0


class Worker(NamedTuple):
    """One process of a run."""

    job: str
    index: int
    address: str

    def __str__(self) -> str:
        return f"{self.job} {self.index} ({self.address})"


class Cluster(NamedTuple):
    """All processes of a run.

    Attributes:
        workers: the processes, the one that writes files first.
        own: position of this process among them.
    """

    workers: tuple[Worker, ...]
    own: int

    @property
    def others(self) -> list[Worker]:
        return [worker for place, worker in enumerate(self.workers) if place != self.own]


def from_environment() -> Cluster:
    """Reads TF_CONFIG.

    Raises:
        BadInput: it is missing, or not as expected.
    """
    if "TF_CONFIG" not in os.environ:
        raise BadInput(
            "--strategy=multiworker: TF_CONFIG is not set; expected the cluster and this worker's task in it"
        )
    try:
        content = json.loads(os.environ["TF_CONFIG"])
        cluster, task = content["cluster"], content["task"]
        workers = tuple(
            Worker(job, index, str(address)) for job in _JOBS for index, address in enumerate(cluster.get(job, ()))
        )
        own = str(task["type"]), int(task["index"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadInput(f"TF_CONFIG is not as expected: {_FORM}") from None
    _check(workers, own)
    return Cluster(workers, [(worker.job, worker.index) for worker in workers].index(own))


def wait_for_all(cluster: Cluster, seconds: float) -> None:
    """Waits until all workers have started.

    TensorFlow would wait, too, but for an hour and deaf to signals. So each worker first listens at its address, as
    TensorFlow will, and goes on when it has reached every other one.

    Args:
        cluster: the workers.
        seconds: longest wait.

    Raises:
        BadInput: this worker's port is taken, perhaps by another worker with the same index.
        WorkerLost: a worker has not started.
    """
    until = time.monotonic() + seconds
    with _listening(cluster.workers[cluster.own], until):
        missing = cluster.others
        while missing := [worker for worker in missing if not _is_reached(worker)]:
            if time.monotonic() > until:
                names = ", ".join(map(str, missing))
                raise WorkerLost(
                    f"{names} cannot be reached {seconds:g} s after this worker's start; start all workers with the "
                    "same command, with TF_CONFIG alike but for the index (--worker_timeout waits longer)"
                )
            time.sleep(_PAUSE)


def _check(workers: tuple[Worker, ...], own: tuple[str, int]) -> None:
    names = [f"{worker.job} {worker.index}" for worker in workers]
    if own not in [(worker.job, worker.index) for worker in workers]:
        raise BadInput(
            f"TF_CONFIG says that this is {own[0]} {own[1]}: the cluster has {', '.join(names) or 'no workers'}; "
            f"expected {_FORM}"
        )
    addresses = [worker.address for worker in workers]
    for worker in workers:
        host, _, port = worker.address.rpartition(":")
        if not host or not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 1 << 16):
            raise BadInput(f"TF_CONFIG has {worker.address!r} as an address: expected host:port")
        if addresses.count(worker.address) > 1:
            raise BadInput(f"TF_CONFIG has {worker.address} twice: expected an address of its own for each worker")


def _place(worker: Worker) -> tuple[str, int]:
    host, _, port = worker.address.rpartition(":")
    return host.strip("[]"), int(port)


@contextlib.contextmanager
def _listening(worker: Worker, until: float) -> Iterator[Any]:
    """Listens at the worker's port on all interfaces; a process of an earlier run may need a while to end."""
    port = _place(worker)[1]
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    while True:
        try:
            with socket.create_server(("", port), family=family, dualstack_ipv6=dual, backlog=128) as server:
                yield server
                return
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            if error.errno == errno.EACCES or time.monotonic() > until:
                raise BadInput(
                    f"port {port} of {worker}: {os.strerror(error.errno).lower()}; is another worker started with the "
                    "same index, or still running? Expected a port of its own for each worker in TF_CONFIG"
                ) from None
        time.sleep(_PAUSE)


def _is_reached(worker: Worker) -> bool:
    try:
        socket.create_connection(_place(worker), timeout=_ATTEMPT).close()
    except (OSError, UnicodeError):
        # Refused, not answered, or its name is not known yet.
        return False
    return True
