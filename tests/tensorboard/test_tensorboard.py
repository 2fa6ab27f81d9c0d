"""`zoo tensorboard` as a real server, and each of its tabs in a real browser."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

import zoo
from tests.helpers.small import build
from tests.training.test_tensorboard_writer import CONFIG, shown
from zoo.cli import main, tensorboard
from zoo.tensorboard import run_comparison

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Of each tab what it shows data in, and how many there must be at least.
TABS = {
    "timeseries": ("card-view", 2),
    "scalars": ("tf-scalar-card", 2),
    "images": ("tf-image-loader img", 2),
    "graphs": ("tf-graph-scene g.node", 5),
    "distributions": ("vz-distribution-chart path", 10),
    "histograms": ("vz-histogram-timeseries path", 10),
    "text": ("tf-text-loader", 2),
    "pr_curves": ("tf-pr-curve-card", 3),
    "hparams": ("tf-hparams-table-view", 1),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs that differ in their rate; one of them shows everything."""
    folder = tmp_path_factory.mktemp("runs")
    zoo.run(shown, CONFIG.replace(checkpoint_every=0), folder / "first")
    zoo.run(build, CONFIG.replace(checkpoint_every=0, learning_rate=0.01, histograms=0), folder / "second")
    return folder


@pytest.fixture(scope="module")
def server(runs):
    """A server on a free port: its address."""
    command = [sys.executable, "-m", "zoo.cli", "tensorboard", str(runs / "first"), str(runs / "second"), "--port", "0"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    said = []
    for line in process.stderr:
        said.append(line)
        found = re.search(r"http://\S+:\d+/", line)
        if found:
            break
    assert found, "".join(said)
    yield found[0].rstrip("/")
    process.send_signal(signal.SIGTERM)
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 0, rest
    process.stderr.close()


def fetched(address, **query):
    with urllib.request.urlopen(f"{address}?{urllib.parse.urlencode(query)}", timeout=60) as answer:
        return answer.read().decode()


def test_only_this_machine_is_served(server):
    assert server.startswith("http://127.0.0.1:")


def test_runs_have_their_names(server):
    found = set(json.loads(fetched(f"{server}/data/runs")))
    assert found >= {"first/train", "first/eval", "first/test", "second/train", "second/eval", "second/test"}


def test_conceptual_graph_has_the_layers(server):
    found = fetched(f"{server}/data/plugin/graphs/graph", run="first/train", tag="keras", conceptual="true")
    assert found.count('s: "Dense"') == 3


@pytest.fixture(scope="module")
def page(server):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs a Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        # The projector draws with WebGL, here on the processor; the sandbox does not start as root.
        flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        opened = browser.new_page(viewport={"width": 1500, "height": 1000})
        opened.set_default_timeout(90_000)
        opened.goto(server)
        yield opened
        browser.close()


@pytest.mark.parametrize("tab", TABS)
def test_tab_shows_data(page, tab):
    what, least = TABS[tab]
    page.evaluate(f"location.hash = '{tab}'")
    page.locator(what).nth(least - 1).wait_for(state="attached")
    if tab == "images":
        page.wait_for_timeout(1000)
        assert page.locator(what).first.evaluate("image => image.naturalWidth") > 100
    if tab == "text":
        page.get_by_text("--learning_rate=0.02").first.wait_for()
    if tab == "graphs":
        page.get_by_text("gradient_tape").first.wait_for(state="attached")
    if tab == "hparams":
        for shown in ("learning_rate", "test accuracy", "first", "second"):
            page.get_by_text(shown).first.wait_for(state="attached")


def test_projector_shows_its_points(page):
    page.evaluate("location.hash = 'projector'")
    frame = page.frame_locator("iframe").frame_locator("iframe")
    frame.locator(".numDataPoints", has_text="9").wait_for()


def test_profiles_are_found_without_following_links(tmp_path):
    """As the Profile tab's plugin looks for them."""
    session = tmp_path / "run" / "train" / "plugins" / "profile" / "2026_01_01"
    session.mkdir(parents=True)
    (session / "host.xplane.pb").write_bytes(b"trace")
    tensorboard._link_profiles(tmp_path / "links" / "run", tmp_path / "run")
    found = [Path(folder) for folder, _, _ in os.walk(tmp_path / "links") if folder.endswith("plugins/profile")]
    assert [path.read_bytes() for path in found[0].glob("*/*.xplane.pb")] == [b"trace"]


def test_same_folder_names_are_told_apart(runs, tmp_path):
    other = tmp_path / "elsewhere" / "first"
    shutil.copytree(runs / "first", other)
    found = tensorboard.named([str(runs / "first"), str(other), str(runs / "first") + "/"])
    assert found == {f"{runs.name}_first": runs / "first", "elsewhere_first": other}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nothing", "nothing is not a folder: expected the --workdir of a run"),
        (".", r"\. is not a run, it has no run\.json: .*; did you mean \./first\?"),
        ("first/train", r"first/train is not a run, it has no run\.json: expected the --workdir of a run"),
    ],
)
def test_what_is_no_run_gives_one_line(runs, monkeypatch, capsys, given, said):
    monkeypatch.chdir(runs)
    assert main.main(["tensorboard", "second", given]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(f"zoo: {said}\n", error)


def test_port_in_use_gives_one_line(runs, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main.main(["tensorboard", str(runs / "first"), "--port", str(port)]) == 2
    assert capsys.readouterr().err == (
        f"zoo: --port {port} cannot be used: Address already in use; choose another, or leave it out\n"
    )


def test_columns_are_what_differs_and_what_came_out():
    configs = [{"seed": 0, "rate": 0.1, "log_every": 5, "only": 1}, {"seed": 0, "rate": 0.2, "log_every": 7}]
    assert run_comparison.differing(configs) == {"rate": [0.1, 0.2]}
    assert run_comparison.differing(configs[:1]) == {"seed": [0]}
    found = {"step": 9, "train/loss": 1.0, "train/gradient_norm": 1.0, "eval/f1": 0.5, "test/f1": 0.5, "test/f1_low": 0}
    found |= {"test/confusion/a/b": 3, "best/step": 5, "test/baseline_accuracy": 0.5}
    assert run_comparison.results([found, {}]) == [("test", "f1"), ("eval", "f1"), ("train", "loss")]
    assert run_comparison.results([{}]) == [("eval", "loss"), ("train", "loss")]
