"""What the workers of a run tell each other: values to agree on, and that one of them has ended.

TensorFlow's coordination service, in the first worker's process, takes a heartbeat of each; a worker that is lost
aborts the collective operations of all others.
"""

import base64
import binascii
import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from zoo.engine import private_apis
from zoo.engine.cluster import Cluster
from zoo.errors import BadInput, WorkerEnded, WorkerLost, ZooError

# Marks a report among the words that TensorFlow puts around it.
_MARK = "zoo-worker-ended:"
# Characters of an error that are told.
_LONGEST = 1000
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
)
# What stands in them where it was another worker's doing.
_LOSSES = ("Collective ops is aborted", "remote target", "CoordinationService")


class Workers:
    """The workers of a run; one process without others needs no agreement.

    Args:
        strategy: strategy of the run.
        cluster: its processes; None for one process.

    Attributes:
        ends_alike: whether the others end by the same error, so that it need not be told.
    """

    def __init__(self, strategy: tf.distribute.Strategy, cluster: Cluster | None = None):
        self._strategy = strategy
        self._cluster = cluster if cluster and len(cluster.workers) > 1 else None
        self._gather = tf.function(self._gathered, autograph=False)
        self.ends_alike = False

    @property
    def is_alone(self) -> bool:
        """Whether this is the only process of the run."""
        return self._cluster is None

    def gather(self, values: Sequence[float]) -> np.ndarray:
        """Values of every worker, float32 `[workers, values]`; returns when all workers have called it."""
        if self._cluster is None:
            return np.asarray([values], np.float32)
        rows = self._gather(tf.constant([values], tf.float32)).numpy()  # [replicas, values]
        return rows[:: len(rows) // len(self._cluster.workers)]

    def wait(self) -> None:
        """Waits until all workers have come to this point."""
        if self._cluster is not None:
            self.gather([0.0, 0.0, 0.0])

    def name(self, place: int) -> str:
        """Name of the worker at a row of `gather`; empty for this one."""
        return "" if self._cluster is None or place == self._cluster.own else str(self._cluster.workers[place])

    def compare(self, facts: Mapping[str, object]) -> None:
        """Compares what must be the same on all workers.

        Args:
            facts: values by the names that are shown.

        Raises:
            BadInput: names the facts that differ, on every worker.
        """
        if self._cluster is None:
            return
        names = self.gather([len(facts), _digest(list(facts)), 0.0])
        digests = self.gather([_digest(value) for value in facts.values()]) if (names == names[0]).all() else names
        for place, row in enumerate(digests):
            different = [name for name, own, first in zip(facts, row, digests[0]) if own != first]
            if different:
                self.ends_alike = True
                what = ", ".join(different) if digests is not names else "the experiment itself"
                raise BadInput(
                    f"{self._cluster.workers[place]} differs from {self._cluster.workers[0]} in {what}; start all "
                    "workers with the same command, files and --workdir"
                )

    @contextlib.contextmanager
    def ending_together(self) -> Iterator[None]:
        """Tells the other workers of an error that ends this block; raises what another one has told."""
        try:
            with self.explained():
                yield
        except ZooError as error:
            self._tell(error.exit_code, str(error))
            raise
        except Exception as error:
            self._tell(ZooError.exit_code, f"unexpected {type(error).__name__}: {error}")
            raise

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turns what TensorFlow raises when another worker has ended into an error of one line.

        Raises:
            WorkerEnded: another worker has told of an error.
            WorkerLost: another worker is lost.
        """
        try:
            yield
        except Exception as error:
            cause = self._cause(error)
            if cause is None:
                raise
            raise cause from None

    def _gathered(self, values: tf.Tensor) -> tf.Tensor:
        def replica(values):
            return tf.distribute.get_replica_context().all_gather(tf.identity(values), axis=0)

        return self._strategy.experimental_local_results(self._strategy.run(replica, args=(values,)))[0]

    def _tell(self, code: int, text: str) -> None:
        if self._cluster is None or self.ends_alike:
            return
        # In one line, also where a library's message has several.
        report = json.dumps([self._cluster.own, code, " ".join(text.split())[:_LONGEST]])
        with contextlib.suppress(tf.errors.OpError):  # Nobody is left to be told.
            private_apis.report_error(_MARK + base64.urlsafe_b64encode(report.encode()).decode() + ";")

    def _cause(self, error: Exception) -> ZooError | None:
        """What another worker's end means for this one; None for an error of another kind."""
        text = str(error)
        if self._cluster is None or isinstance(error, ZooError):
            return None
        told = _told(text)
        if told is None:
            return WorkerLost(self._loss(text)) if is_of_another(error) else None
        place, code, line = told
        if code == WorkerLost.exit_code:
            return WorkerLost(line)
        return WorkerEnded(f"{self._cluster.workers[place]} has ended: {line}", code)

    def _loss(self, text: str) -> str:
        """Says which worker is lost."""
        tasks = re.findall(r"/job:(\w+)/(?:replica:0/)?task:(\d+)", text)
        lost = [worker for worker in self._cluster.others if (worker.job, str(worker.index)) in tasks]
        silent = "stopped sending heartbeats" in text or "CoordinationService/Heartbeat" in text
        if not lost and "CoordinationService" in text and self._cluster.own:
            lost = [self._cluster.workers[0]]
        name = str(lost[0]) if lost else "another worker"
        return (
            f"{name} was lost ({'it does not answer any more' if silent else 'its connection broke off'}); start all "
            "workers again with the same command"
        )


def is_of_another(error: Exception) -> bool:
    """Whether TensorFlow raised an error because another worker has ended or is lost."""
    return isinstance(error, _LOST) and any(words in str(error) for words in _LOSSES)


def _told(text: str) -> tuple[int, int, str] | None:
    """What another worker reported: its place, its exit code and its line."""
    found = re.search(f"{_MARK}([A-Za-z0-9_=-]+);", text)
    if found is None:
        return None
    try:
        place, code, line = json.loads(base64.urlsafe_b64decode(found[1]))
    except (ValueError, binascii.Error):
        return None
    return place, code, line


def _digest(value: object) -> float:
    """24 bits, which float32 holds exactly."""
    return float(int.from_bytes(hashlib.sha256(repr(value).encode()).digest()[:3], "big"))
