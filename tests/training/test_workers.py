"""Two worker processes end where one replica ends; a resumed pair too."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

import zoo
from tests.helpers import small, worker_run
from tests.helpers.small import furthest
from tests.training.test_resume import points
from zoo.engine import checkpoints

ROOT = Path(__file__).parents[2]


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def run_workers(workdir, count=2):
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(count)]}
    workers = []
    for index in range(count):
        place = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CONFIG": place}
        command = [sys.executable, "-m", "tests.helpers.worker_run", str(workdir)]
        pipe = subprocess.PIPE
        workers.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True))
    try:
        for worker in workers:
            _, said = worker.communicate(timeout=240)
            assert worker.returncode == 0, said
    finally:
        for worker in workers:
            worker.kill()


def test_two_workers_are_one_replica(tmp_path):
    zoo.run(small.build, worker_run.CONFIG, tmp_path / "one")
    run_workers(tmp_path / "two")
    # The chief alone writes.
    assert all(len(list((tmp_path / "two" / run).glob("events*"))) == 1 for run in (".", "train", "eval", "test"))
    one, two = (checkpoints.restore(tmp_path / name / "checkpoints")[0] for name in ("one", "two"))
    assert furthest(one.state, two.state) < 3e-6
    for name, values in points(tmp_path / "one").items():
        found = points(tmp_path / "two")[name]
        assert [step for step, _ in found] == [step for step, _ in values]
        np.testing.assert_allclose([v for _, v in found], [v for _, v in values], atol=1e-5)

    # Killed after step 3 and started again, as a pair.
    shutil.rmtree(tmp_path / "two" / "checkpoints" / "step-00000006")
    run_workers(tmp_path / "two")
    again = checkpoints.restore(tmp_path / "two" / "checkpoints")[0]
    assert all(np.array_equal(two.state[name], again.state[name]) for name in two.state)
