"""Signals in every order and at every moment: one line, the right exit code, and nothing of a run is lost."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.helpers.small import SmallConfig, build
from zoo.engine import checkpoints
from zoo.engine.engine import Engine
from zoo.errors import Stopped
from zoo.training import signals

ROOT = Path(__file__).parents[2]
CONFIG = SmallConfig(
    epochs=0, steps=6, dropout=0.3, optimizer="adamw", log_every=2, eval_every=3, steps_per_loop=1, compile="none",
    graph=False,
)  # fmt: skip
ALL = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", ALL)
def test_the_first_waits_for_the_save(number):
    before = signal.getsignal(number)
    with signals.watched() as interrupt:
        interrupt.saves_first = True
        send(number)
        assert interrupt.signal == number
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("first", ALL)
@pytest.mark.parametrize("second", ALL)
def test_the_second_ends_at_once(first, second):
    with pytest.raises(
        Stopped, match=f"{second.name}: stopped at once; the same command goes on from step 40"
    ) as error:
        with signals.watched() as interrupt:
            interrupt.saves_first, interrupt.saved_step = True, lambda: 40
            send(first, second)
            raise AssertionError
    assert error.value.exit_code == 128 + second


@pytest.mark.parametrize("number", ALL)
def test_before_the_first_step_one_is_enough(number):
    with pytest.raises(Stopped, match="stopped at once; no step was saved, the same command starts again"):
        with signals.watched():
            send(number)
            raise AssertionError


def test_what_a_library_makes_of_the_stop_is_still_a_stop():
    with pytest.raises(Stopped, match="SIGTERM: stopped at once"), signals.watched():
        try:
            send(signal.SIGTERM)
        except BaseException as error:
            raise RuntimeError("of a library") from error


def test_one_that_came_late_ends_what_follows_the_last_step():
    with pytest.raises(Stopped), signals.watched() as interrupt:
        interrupt.saves_first = True
        send(signal.SIGTERM)
        interrupt.nothing_to_save()


def test_one_inside_another():
    """As `main` and `run` have it."""
    with pytest.raises(Stopped, match="SIGINT: stopped at once"), signals.watched():
        with signals.watched() as inner:
            inner.saves_first = True
            send(signal.SIGUSR1)
            assert inner.wants_save and not inner.signal
        send(signal.SIGINT)


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.watched() as interrupt:
            send(signal.SIGHUP)
            assert not interrupt.signal
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


HUNG_UP = """
import os, signal, sys, time
from zoo.training import signals
with signals.watched() as interrupt:
    interrupt.saves_first = True
    print("ready", flush=True)
    while not interrupt.signal:
        time.sleep(0.01)
    print("the save goes on", file=sys.stderr, flush=True)
    open(sys.argv[1], "w").write(signal.Signals(interrupt.signal).name)
"""


def test_a_closed_terminal(tmp_path):
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", HUNG_UP, str(tmp_path / "saved")]
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *command], cwd=ROOT, stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    said = b""
    # The whole line: a terminal that closes within it makes the print fail.
    while not said.endswith(b"ready\r\n"):
        said += os.read(leader, 100)
    os.close(leader)
    process.wait(timeout=60)
    assert (tmp_path / "saved").read_text() == "SIGHUP"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, zoo.run(build, CONFIG, folder)


@pytest.mark.parametrize(
    ("numbers", "code", "said"),
    [
        ((signal.SIGHUP,), 129, "SIGHUP: saved at step 4; the same command goes on from there"),
        ((signal.SIGINT, signal.SIGTERM), 143, "SIGTERM: stopped at once; the same command goes on from step 3"),
        ((signal.SIGUSR1,), 0, ""),
    ],
)
def test_a_run_ends_bitwise_where_it_would_have_ended(whole, tmp_path, monkeypatch, capsys, numbers, code, said):
    real = Engine.train

    def train(engine, batches, step, steps):
        if step == 3:
            monkeypatch.setattr(Engine, "train", real)
            send(*numbers)
        return real(engine, batches, step, steps)

    config = CONFIG.replace(checkpoint_every=3)
    monkeypatch.setattr(Engine, "train", train)
    if code:
        with pytest.raises(Stopped) as error:
            zoo.run(build, config, tmp_path)
        assert str(error.value) == said and error.value.exit_code == code
    result = zoo.run(build, config, tmp_path)
    if not code:
        assert "SIGUSR1: saved at step 4; the run goes on" in capsys.readouterr().err
        assert (tmp_path / "checkpoints" / "step-00000004").exists()
    expected, found = (checkpoints.restore(path / "checkpoints")[0].state for path in (whole[0], tmp_path))
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    assert all(result[name] == value for name, value in whole[1].items() if "per_second" not in name)
