"""Four logical CPUs for all tests of this process, set before TensorFlow starts; quick tests first.

`make test` runs a sample of the large tables of cases; `make test-all` runs every case.
"""

import os
from pathlib import Path

import hypothesis

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

# Files with processes of their own, the longest first, so that no worker waits long for the other.
_SLOW_FILES = ("test_demo", "test_notebooks", "test_readme", "test_docs", "test_kills", "test_workers", "test_cli")
_SLOW_FILES += ("test_main", "test_package", "test_flag_help")


# The same examples every time: what is green stays so. `--hypothesis-profile=explore` looks for new ones.
# No limit of time: a machine may be slow.
_unhurried = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("steady", derandomize=True, **_unhurried)
hypothesis.settings.register_profile("explore", print_blob=True, **_unhurried)
hypothesis.settings.load_profile("steady")


def pytest_addoption(parser):
    about = "Run one part of so many, by files: XLA's programs stay in a process's memory until it ends."
    parser.addoption("--part", default="1/1", help=about)
    parser.addoption("--all", action="store_true", help="Run every case of the large tables.")


def pytest_configure(config):
    config.addinivalue_line("markers", "thorough: a case whose neighbours cover the same; runs with --all.")
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
    return True if collection_path in files and collection_path not in files[part - 1 :: parts] else None


def pytest_collection_modifyitems(config, items):
    if not config.getoption("all"):
        left = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
    places = {name: number for number, name in enumerate(_SLOW_FILES, 1)}
    items.sort(key=lambda item: places.get(item.path.stem, 0))
