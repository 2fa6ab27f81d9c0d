"""Four logical CPUs for all tests of this process, set before TensorFlow starts; parts of equal length.

`make test` runs a sample of the large tables of cases; `make test-all` runs every case.
"""

import json
import os
from collections import Counter
from pathlib import Path

import hypothesis

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
# Programs here run for a few steps, and LLVM's optimization would take most of a test that compiles. XLA's own passes
# run as ever, and `--all` leaves LLVM as users have it.
_UNOPTIMIZED = "--xla_backend_optimization_level=0"

# Seconds of each file on one core; written by `--record_seconds`. Files that are not in it are taken for short.
_SECONDS_FILE = Path(__file__).with_name("seconds.json")
_SECONDS = json.loads(_SECONDS_FILE.read_text())
_SHORT = 10

# The same examples every time: what is green stays so. `--hypothesis-profile=explore` looks for new ones.
# No limit of time: a machine may be slow.
_unhurried = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("steady", derandomize=True, **_unhurried)
hypothesis.settings.register_profile("explore", print_blob=True, **_unhurried)
hypothesis.settings.load_profile("steady")


def pytest_addoption(parser):
    about = "Run one part of so many, by files: XLA's programs stay in a process's memory until it ends."
    parser.addoption("--part", default="1/1", help=about)
    parser.addoption("--record_seconds", action="store_true", help="Write how long each file takes to seconds.json.")
    parser.addoption("--all", action="store_true", help="Run every case of the large tables.")


def pytest_configure(config):
    config.addinivalue_line("markers", "thorough: a case whose neighbours cover the same; runs with --all.")
    # Workers and processes of tests inherit it.
    if not config.getoption("all") and _UNOPTIMIZED not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_UNOPTIMIZED}".strip()
    # The process that only hands out tests needs no TensorFlow.
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        _start_tensorflow()


def _start_tensorflow() -> None:
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
    # Graphs here run for a few steps, and optimising one takes seconds. The tests with processes of their own optimise.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def pytest_ignore_collect(collection_path, config):
    """Files of other parts are not even imported."""
    part, parts = map(int, config.getoption("--part").split("/"))
    if parts == 1 or collection_path.is_dir():
        return None
    files = sorted(Path(__file__).parent.rglob("test_*.py"))
    return True if collection_path in files and collection_path not in parted(files, parts)[part - 1] else None


def parted(files: list[Path], parts: int) -> list[list[Path]]:
    """Parts of about equal length: each file, the longest first, goes to the part that is shortest so far."""
    result: list[list[Path]] = [[] for _ in range(parts)]
    lengths = [0.0] * parts
    for file in sorted(files, key=_seconds, reverse=True):
        shortest = lengths.index(min(lengths))
        result[shortest].append(file)
        lengths[shortest] += _seconds(file)
    return result


def pytest_collection_modifyitems(config, items):
    if not config.getoption("all"):
        left = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
    # The longest files first, so that no worker waits long for the other at the end.
    items.sort(key=lambda item: -_seconds(item.path))


_measured: Counter[str] = Counter()


def pytest_runtest_logreport(report):
    _measured[report.nodeid.partition("::")[0]] += report.duration


def pytest_sessionfinish(session):
    if session.config.getoption("--record_seconds") and not hasattr(session.config, "workerinput"):
        files = {f"tests/{path.relative_to(_SECONDS_FILE.parent)}" for path in _SECONDS_FILE.parent.rglob("test_*.py")}
        rounded = {name: round(seconds) for name, seconds in _measured.items()}
        seconds = {name: each for name, each in sorted((_SECONDS | rounded).items()) if name in files}
        _SECONDS_FILE.write_text(json.dumps(seconds, indent=1) + "\n")


def _seconds(file: Path) -> float:
    return _SECONDS.get(f"tests/{file.relative_to(_SECONDS_FILE.parent)}", _SHORT)
