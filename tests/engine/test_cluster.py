"""TF_CONFIG, and workers that wait for each other before TensorFlow starts."""

import json
import socket
import threading

import pytest

from zoo.engine import cluster
from zoo.errors import BadInput, WorkerLost


def config(workers, index, job="worker", **more):
    return json.dumps({"cluster": {"worker": workers, **more}, "task": {"type": job, "index": index}})


def free_ports(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def read(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    return cluster.from_environment()


def test_the_chief_comes_first(monkeypatch):
    workers = read(monkeypatch, config(["b:1", "c:1"], 1, chief=["a:1"]))
    assert [str(worker) for worker in workers.workers] == ["chief 0 (a:1)", "worker 0 (b:1)", "worker 1 (c:1)"]
    assert workers.own == 2 and [worker.address for worker in workers.others] == ["a:1", "b:1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "TF_CONFIG is not as expected"),
        ("[" * 10**5, "TF_CONFIG is not as expected"),
        ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG is not as expected"),
        ('{"cluster": [], "task": {"type": "worker", "index": 0}}', "TF_CONFIG is not as expected"),
        (config(["a:1", "b:1"], "x"), "TF_CONFIG is not as expected"),
        (config(["a:1", "b:1"], 2), "TF_CONFIG says that this is worker 2: the cluster has worker 0, worker 1"),
        (config(["a:1"], 0, job="ps"), "TF_CONFIG says that this is ps 0"),
        (config([], 0), "the cluster has no workers"),
        (config(["a"], 0), "TF_CONFIG has 'a' as an address: expected host:port"),
        (config(["a:0"], 0), "expected host:port"),
        (config([f"a:{'9' * 5000}"], 0), "expected host:port"),
        (config(["a:1", "a:1"], 0), "TF_CONFIG has a:1 twice"),
    ],
)
def test_what_cannot_be_a_cluster(monkeypatch, text, said):
    with pytest.raises(BadInput, match=said):
        read(monkeypatch, text)


def test_all_are_met(monkeypatch):
    workers = [f"localhost:{port}" for port in free_ports(3)]
    clusters = [read(monkeypatch, config(workers, index)) for index in range(3)]
    met, all_met = [], threading.Barrier(3)

    def start(one):
        cluster.wait_for_all(one, 60)
        # As TensorFlow does: the last ones still have to reach the first.
        with socket.create_server(("localhost", int(workers[one.own].rpartition(":")[2]))):
            met.append(one.own)
            all_met.wait(60)

    threads = [threading.Thread(target=start, args=[one]) for one in clusters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(met) == [0, 1, 2]


def test_one_that_does_not_start(monkeypatch):
    workers = [f"localhost:{port}" for port in free_ports(2)]
    with pytest.raises(
        WorkerLost, match=rf"^worker 1 \({workers[1]}\) cannot be reached 0.1 s after this worker"
    ) as error:
        cluster.wait_for_all(read(monkeypatch, config(workers, 0)), 0.1)
    assert error.value.exit_code == 5


def test_a_host_that_nobody_knows(monkeypatch):
    workers = [f"localhost:{free_ports(1)[0]}", "nowhere.invalid:2222"]
    with pytest.raises(WorkerLost, match=r"nowhere\.invalid"):
        cluster.wait_for_all(read(monkeypatch, config(workers, 0)), 0.1)


def test_two_with_the_same_index(monkeypatch):
    ports = free_ports(2)
    with socket.create_server(("localhost", ports[0])):
        workers = read(monkeypatch, config([f"localhost:{port}" for port in ports], 0))
        with pytest.raises(BadInput, match=f"port {ports[0]} of worker 0 .*in use; is another worker started with"):
            cluster.wait_for_all(workers, 0.1)
