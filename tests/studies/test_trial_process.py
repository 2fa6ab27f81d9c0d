"""The process of the trials as its sweep sees it: what it asks, when it dies, and how a stop is passed on."""

import signal
import stat
import sys
import threading

import pytest

from zoo.errors import BadInput, Stopped, ZooError
from zoo.studies.trial_process import TrialProcess
from zoo.training import signals

# A worker that trains nothing; the folder of a trial says what it does.
WORKER = """#!{python}
import json, os, signal, sys, time
def reply(**content):
    print(json.dumps(content), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "check" in request:
        reply(failed=request["space"], kind=request["sampler"])
        continue
    name = os.path.basename(request["folder"])
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "broken":
        sys.exit("ImportError: no module")
    if name == "stopped":
        signal.signal(signal.SIGTERM, lambda *_: (reply(stopped="SIGTERM: saved at step 7"), sys.exit()))
        reply(evaluation=1, value=0.5)
        sys.stdin.readline()
        time.sleep(60)
    for number in (1, 2):
        reply(evaluation=number, value=number / 2)
        if json.loads(sys.stdin.readline())["end"]:
            reply(pruned=f"after {{number}}")
            break
    else:
        reply(metric="eval/loss", values=[os.getpid()])
"""


@pytest.fixture
def worker(tmp_path, monkeypatch):
    path = tmp_path / "worker"
    path.write_text(WORKER.format(python=sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(path))
    interrupt = signals.Interrupt()
    process = TrialProcess("experiment", interrupt)
    yield process, interrupt
    process.close()


def never(evaluation, value):
    return False


def test_evaluations_are_answered_and_the_process_is_used_again(worker, tmp_path):
    process, _ = worker
    seen = []
    first = process.trial(["--a=1"], tmp_path / "one", lambda *given: bool(seen.append(given)))
    assert seen == [(1, 0.5), (2, 1.0)] and first["metric"] == "eval/loss"
    assert process.trial([], tmp_path / "two", lambda number, _: number == 2) == {"pruned": "after 2"}
    assert process.trial([], tmp_path / "three", never) == first
    # XLA's programs end with their process.
    pids = [process.trial([], tmp_path / f"{k}", never)["values"] for k in range(8)]
    assert pids[:7] == [first["values"]] * 7 and pids[7] != first["values"]


def test_a_process_that_dies_is_a_failed_trial_and_the_next_has_a_new_one(worker, tmp_path):
    process, _ = worker
    found = process.trial([], tmp_path / "killed", never)
    assert found["failed"] == "the trial's process was ended by SIGKILL, as the system does without memory"
    found = process.trial([], tmp_path / "broken", never)
    assert found["failed"] == "the trial's process ended with code 1; its last line: ImportError: no module"
    assert process.trial([], tmp_path / "one", never)["metric"] == "eval/loss"


def test_what_is_refused_is_an_error(worker):
    process, _ = worker
    with pytest.raises(BadInput, match="--space is wrong"):
        process.check([], "--space is wrong", "BadInput")
    with pytest.raises(ZooError) as error:
        process.check([], "unexpected", "KeyError")
    assert type(error.value) is ZooError


def test_a_signal_to_the_sweep_stops_the_trial_once_it_has_saved(worker, tmp_path):
    process, interrupt = worker
    interrupt.saves_first = True

    def ask(evaluation, value):
        # As a handler would, between two instructions.
        threading.Timer(0.1, interrupt.receive, [signal.SIGINT]).start()
        return False

    with pytest.raises(Stopped, match="SIGTERM: saved at step 7") as stopped:
        process.trial([], tmp_path / "stopped", ask)
    assert stopped.value.exit_code == 128 + signal.SIGINT
