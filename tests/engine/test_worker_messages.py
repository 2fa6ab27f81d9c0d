"""What TensorFlow raises when another worker ends, as one line. The messages are those of TensorFlow 2.21."""

import pytest
import tensorflow as tf

from zoo.engine import compile_modes, private_apis
from zoo.engine.cluster import Cluster, Worker
from zoo.engine.workers import Workers
from zoo.errors import BadInput, WorkerEnded, WorkerLost

ABORTED = "Graph execution error:\n\nCollective ops is aborted by: "
BROKEN = (
    f"{ABORTED}recvmsg:Connection reset by peer\nAdditional GRPC error information from remote target "
    "/job:worker/replica:0/task:2 while calling /tensorflow.WorkerService/CompleteInstance:"
)
SILENT = (
    f"{ABORTED}Error reported from /job:worker/task:2: The following tasks are unhealthy (stopped sending "
    "heartbeats):\n/job:worker/replica:0/task:2\nThe tasks have crashed."
)
LEADER = f"{ABORTED}Deadline Exceeded\n\nRPC: /tensorflow.CoordinationService/Heartbeat\nThe error could be"


def workers(own=1):
    return Workers(None, Cluster(tuple(Worker("worker", index, f"{'abc'[index]}:1") for index in range(3)), own))


def explained(error, own=1):
    """The error that a worker ends with."""
    try:
        with workers(own).explained():
            raise error
    except Exception as found:
        return found


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (tf.errors.UnavailableError(None, None, BROKEN), "worker 2 (c:1) was lost (its connection broke off); "),
        (tf.errors.UnavailableError(None, None, SILENT), "worker 2 (c:1) was lost (it does not answer any more); "),
        (
            tf.errors.DeadlineExceededError(None, None, LEADER),
            "worker 0 (a:1) was lost (it does not answer any more); ",
        ),
        (tf.errors.InternalError(None, None, f"{ABORTED}what"), "another worker was lost (its connection broke off); "),
    ],
)
def test_a_worker_that_is_lost(error, line):
    found = explained(error)
    assert isinstance(found, WorkerLost) and found.exit_code == 5
    assert str(found) == f"{line}start all workers again with the same command"
    # Nor is it an operation that XLA lacks.
    assert not compile_modes.may_be_xlas(error)


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.InvalidArgumentError(None, None, f"{ABORTED}shapes"),
        tf.errors.InternalError(None, None, "cuDNN on /job:worker/replica:0/task:2/device:GPU:0"),
        ValueError("Collective ops is aborted"),
        BadInput("--steps"),
    ],
)
def test_an_error_of_its_own(error):
    assert explained(error) is error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BadInput("cannot write é\nhere"), 2, "worker 0 (a:1) has ended: cannot write é here"),
        (ValueError("x" * 5000), 1, f"worker 0 (a:1) has ended: unexpected ValueError: {'x' * 500}"),
        (WorkerLost("worker 2 (c:1) was lost"), 5, "worker 2 (c:1) was lost"),
    ],
)
def test_an_error_that_another_one_tells(monkeypatch, error, code, line):
    told = []
    monkeypatch.setattr(private_apis, "report_error", told.append)
    with pytest.raises(type(error)), workers(0).ending_together():
        raise error
    message = (
        f"{ABORTED}Error reported from /job:worker/task:0: {told[0]}\nThe error could be from a previous operation."
    )
    found = explained(tf.errors.CancelledError(None, None, message))
    assert isinstance(found, WorkerLost if code == 5 else WorkerEnded) and found.exit_code == code
    assert str(found).startswith(line) and "\n" not in str(found) and len(str(found)) < 1100


def test_an_end_that_all_share_is_not_told(monkeypatch):
    told, one = [], workers(0)
    monkeypatch.setattr(private_apis, "report_error", told.append)
    one.ends_alike = True
    with pytest.raises(BadInput), one.ending_together():
        raise BadInput("--steps")
    assert not told
