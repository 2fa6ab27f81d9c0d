"""Cost of the TensorBoard summaries of a run, and TensorBoard's time to load long runs.

    python -m benchmarks.tensorboard cost --dataset=mnist --epochs=10      # any flags of experiments.mlp_classifier
    python -m benchmarks.tensorboard load                                  # 10 runs of 100,000 steps

`cost` trains once and measures the time spent on summaries, by kind, and the time of the whole run without start-up
(imports, reading the data). `load` writes files by the class that runs use, with the curves of a run that logs every
100 steps and evaluates every 1,000; then it starts `zoo tensorboard` on them and measures the time until every point of
every run can be fetched, and until a browser has drawn the first curves.
"""

import contextlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

from absl import flags

RUNS, STEPS, LOG_EVERY, EVAL_EVERY = 10, 100_000, 100, 1000
_TRAIN = ("loss", "accuracy", "gradient_norm", "learning_rate", "parameter_norm", "examples_per_second")
_STATE = ("memory_mb/process", *(f"weight_norm/{i:02d}_dense" for i in range(6)))


def cost(arguments: list[str]) -> dict[str, float]:
    """Wall time and CPU time of a run and of each kind of summary, in seconds."""
    from experiments.mlp_classifier import MlpConfig, build
    from zoo import config_flags
    from zoo.engine.inspection import Inspection
    from zoo.training.run import run
    from zoo.training.tensorboard_writer import TensorBoardWriter

    values = flags.FlagValues()
    config_flags.define_flags(MlpConfig, "", values)
    values(["cost", *arguments])
    spent: dict[str, list[float]] = {}

    def timed(owner, name):
        real = getattr(owner, name)

        def wrapped(*arguments, **options):
            with _added(spent.setdefault(name, [0.0, 0.0])):
                return real(*arguments, **options)

        setattr(owner, name, wrapped)

    for name in ("open", "state", "scalars", "look", "histograms", "points", "flush", "close"):
        timed(TensorBoardWriter, name)
    # Part of the time of `open`.
    timed(Inspection, "graph")
    whole = spent.setdefault("run", [0.0, 0.0])
    built = spent.setdefault("build", [0.0, 0.0])

    def timed_build(config):
        with _added(built):
            return build(config)

    with tempfile.TemporaryDirectory() as folder, _added(whole, time.process_time):
        run(timed_build, config_flags.from_flags(MlpConfig, values), folder)
    rest = [whole[0] - built[0], whole[1] - built[1]]
    parts = {name: both for name, both in spent.items() if name not in ("run", "build")}
    figures = {"run_seconds": rest[0], "run_processor_seconds": rest[1]}
    figures |= {f"{name}_processor_seconds": both[1] for name, both in parts.items()}
    parts.pop("graph", None)
    figures["share"] = sum(both[0] for both in parts.values()) / rest[0]
    figures["share_of_processor"] = sum(both[1] for both in parts.values()) / rest[1]
    return figures


@contextlib.contextmanager
def _added(both: list[float], clock=time.thread_time):
    """Adds wall time, and this thread's CPU time only, as TensorFlow's other threads wait by spinning."""
    wall, processor = time.perf_counter(), clock()
    try:
        yield
    finally:
        both[0] += time.perf_counter() - wall
        both[1] += clock() - processor


def write(folder: Path) -> int:
    """Writes the event files of long runs; returns their number of points."""
    from zoo.tensorboard.event_files import History

    points = 0
    for number in range(RUNS):
        workdir = folder / f"run{number}"
        history = History(workdir, ("train", "eval"), None, ("test",))
        history.config({"seed": number, "learning_rate": 0.001}, {"config": f"--seed={number}"})
        (workdir / "run.json").write_text(json.dumps({"config": {"seed": number}}))
        for step in range(LOG_EVERY, STEPS + 1, LOG_EVERY):
            value = math.exp(-step / 20_000) + 0.01 * math.sin(step + number)
            history.scalars("train", step, dict.fromkeys(_STATE, value))
            history.scalars("train", step, dict.fromkeys(_TRAIN, value))
            points += len(_STATE) + len(_TRAIN)
            if step % EVAL_EVERY == 0:
                history.scalars("eval", step, {"loss": value, "accuracy": 1 - value})
                points += 2
        history.close()
    return points


def load() -> dict[str, float]:
    """Seconds until `zoo tensorboard` on long runs serves, has loaded all points, and has drawn curves."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        seconds = {"points": write(Path(folder))}
        seconds["write_seconds"] = time.perf_counter() - started
        runs = [str(path) for path in sorted(Path(folder).iterdir())]
        started = time.perf_counter()
        command = [sys.executable, "-m", "zoo.cli", "tensorboard", *runs, "--port", "0"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            server = next(re.search(r"http://\S+:\d+", line)[0] for line in process.stderr if "http://127" in line)
            seconds["server_seconds"] = time.perf_counter() - started
            asked = time.perf_counter()
            while not _is_loaded(server):
                time.sleep(0.1)
            seconds["load_seconds"] = time.perf_counter() - asked
            seconds |= _drawn(server)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    return seconds


def _is_loaded(server: str) -> bool:
    """Whether the last point of each run's last curve is loaded."""
    for number in range(RUNS):
        query = urllib.parse.urlencode({"run": f"run{number}/train", "tag": _TRAIN[-1]})
        try:
            with urllib.request.urlopen(f"{server}/data/plugin/scalars/scalars?{query}", timeout=60) as answer:
                points = json.load(answer)
        except OSError:
            return False
        if len(points) < STEPS // LOG_EVERY or points[-1][1] != STEPS:
            return False
    return True


def _drawn(server: str) -> dict[str, float]:
    """Seconds until a browser shows the first curves; empty without a browser."""
    program = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {}
    if program is None:
        return {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        started = time.perf_counter()
        page.goto(f"{server}/#scalars", timeout=120_000)
        page.locator("tf-scalar-card").first.wait_for(timeout=120_000)
        page.locator("tf-scalar-card path, tf-scalar-card canvas").first.wait_for(state="attached", timeout=120_000)
        seconds = {"browser_seconds": time.perf_counter() - started}
        browser.close()
    return seconds


if __name__ == "__main__":
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    kind, *rest = sys.argv[1:]
    print(json.dumps({"cost": cost, "load": lambda _: load()}[kind](rest), indent=1))
