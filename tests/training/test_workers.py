"""Two worker processes end where one replica ends, and end together, whatever happens to one of them."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.helpers import small, worker_run
from tests.helpers.small import furthest
from tests.training.test_resume import points
from zoo.engine import checkpoints
from zoo.workdir import owned

ROOT = Path(__file__).parents[2]
# Far above what a worker needs, as the machine may be busy.
LONGEST = 240


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Pair:
    """Two workers in a folder; one may pause at a place until `go`.

    Args:
        workdir: folder of the run.
        flags: flags of both workers.
        pause: number of the worker that pauses, and the place (see `worker_run`).
        second: flags of the second worker only.
    """

    def __init__(self, workdir, *flags, pause=(0, ""), second=()):
        start, self._go = workdir.with_suffix(".start"), workdir.with_suffix(".go")
        for file in (start, self._go):
            file.unlink(missing_ok=True)
        cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
        self.workers, pipe = [], subprocess.PIPE
        for index in range(2):
            place = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
            own = {"PAUSE": pause[1] if index == pause[0] else "", "START": str(start), "GO": str(self._go)}
            words = [f"--workdir={workdir}", *flags, *(second if index else ())]
            command = [sys.executable, "-m", "tests.helpers.worker_run", *words]
            environment = {"CUDA_VISIBLE_DEVICES": "-1", **os.environ, **own, "TF_CONFIG": place}
            environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
            self.workers.append(
                subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)
            )
        self._pause = pause
        for worker in self.workers:
            self._read_until(worker, "imported")
        start.touch()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for worker in self.workers:
            worker.kill()
            worker.communicate()

    def signal(self, number):
        """Sends a signal to the worker that pauses, once it does."""
        worker = self.workers[self._pause[0]]
        self._read_until(worker, self._pause[1])
        worker.send_signal(number)

    def _read_until(self, worker, line):
        if all(each.strip() != line for each in worker.stdout):
            raise AssertionError(worker.communicate()[1])

    def go(self):
        self._go.touch()

    def end(self, index):
        """Exit code and stderr of a worker."""
        _, said = self.workers[index].communicate(timeout=LONGEST)
        return self.workers[index].returncode, said


def run_pair(workdir):
    with Pair(workdir) as pair:
        for index in range(2):
            code, said = pair.end(index)
            assert code == 0, said


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers") / "two"
    run_pair(folder)
    return folder


def state(workdir):
    return checkpoints.restore(workdir / "checkpoints")[0]


def alone(workdir, *flags):
    """The same run in one process."""
    now = workdir.with_suffix(".now")
    now.touch()
    command = [sys.executable, "-m", "tests.helpers.worker_run", f"--workdir={workdir}", *flags]
    subprocess.run(command, cwd=ROOT, env={"CUDA_VISIBLE_DEVICES": "-1", **os.environ, "START": str(now)}, check=True)


def test_two_workers_are_one_replica(two, tmp_path):
    zoo.run(small.build, worker_run.CONFIG, tmp_path)
    # The chief alone writes.
    assert all(len(list((two / run).glob("events*"))) == 1 for run in (".", "train", "eval", "test"))
    assert furthest(state(tmp_path).state, state(two).state) < 3e-6
    # In the same slices they are one replica bit for bit, in processes that optimise graphs alike.
    alone(tmp_path / "exact", "--slices=2", "--strategy=auto")
    one, both = state(tmp_path / "exact").state, state(two).state
    assert not [name for name in one if not np.array_equal(one[name], both[name])]
    for name, values in points(tmp_path).items():
        found = points(two)[name]
        assert [step for step, _ in found] == [step for step, _ in values]
        np.testing.assert_allclose([v for _, v in found], [v for _, v in values], atol=1e-5)


def stopped(workdir, who, place, number):
    """A signal to one worker: the codes and last lines of both, and the step of the newest checkpoint."""
    with Pair(workdir, pause=(who, place)) as pair:
        pair.signal(number)
        pair.go()
        ends = [pair.end(index) for index in range(2)]
        return [code for code, _ in ends], [said.splitlines()[-1] for _, said in ends], state(workdir).step


def lost(workdir, who, place, number, *flags):
    """A worker is killed or stopped: the code and the lines of the other one."""
    with Pair(workdir, *flags, pause=(who, place)) as pair:
        pair.signal(number)
        return pair.end(1 - who)


def test_signals_and_losses_of_one_worker_end_both_and_cost_nothing(two, tmp_path):
    folder = tmp_path / "run"
    codes, lines, step = stopped(folder, 1, "train", signal.SIGTERM)
    # The call that the signal met has one step or two, as the pace has it.
    assert codes == [143, 143] and step in (2, 3)
    assert lines[1] == f"worker_run: SIGTERM: saved at step {step}; the same command goes on from there"
    assert lines[0].startswith("worker_run: SIGTERM to worker 1 (localhost:")
    assert lines[0].endswith(f"): saved at step {step}; the same command goes on from there")

    code, said = lost(folder, 1, "train", signal.SIGKILL)
    assert code == 5 and "Traceback" not in said
    assert "was lost (its connection broke off); start all workers again with the same command" in said
    assert said.splitlines()[-1].endswith("; the run goes on bitwise from step 3")

    # A bound of its own, which is short here: a stopped process answers nobody and closes nothing.
    code, said = lost(folder, 0, "train", signal.SIGSTOP, "--worker_timeout=5")
    assert code == 5 and "Traceback" not in said
    assert said.splitlines()[-1].endswith(
        "was lost (it does not answer any more); start all workers again with the same command; the run goes on "
        "bitwise from step 3 or a later one"
    )

    run_pair(folder)
    one, again = state(two), state(folder)
    assert one.step == again.step == 6
    assert all(np.array_equal(one.state[name], again.state[name]) for name in one.state)


def test_workers_that_differ(tmp_path):
    with Pair(tmp_path / "run", second=["--learning_rate=0.5", "--log_every=2"]) as pair:
        for index in range(2):
            code, said = pair.end(index)
            assert code == 2
            line = said.splitlines()[-1]
            assert "worker 1 (localhost:" in line and "differs from worker 0 (localhost:" in line
            assert "in --learning_rate, --log_every; start all workers with the same command" in line
    assert not (tmp_path / "run" / "run.json").exists()


def test_an_error_of_one_worker_is_told_to_the_other(tmp_path):
    folder = tmp_path / "run"
    # Only the first worker writes, and so only it finds the folder in use.
    with owned(folder), Pair(folder) as pair:
        codes, said = zip(*(pair.end(index) for index in range(2)))
    line = f"--workdir {folder} is in use by another run; wait for it or choose another folder"
    assert codes == (2, 2) and said[0].splitlines()[-1] == f"worker_run: {line}"
    assert said[1].splitlines()[-1].startswith("worker_run: worker 0 (localhost:")
    assert said[1].splitlines()[-1].endswith(f"has ended: {line}") and "Traceback" not in said[1]
