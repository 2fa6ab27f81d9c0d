"""Four logical CPUs for all tests of this process, set before TensorFlow starts; quick tests first."""

import os

import hypothesis

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

_SLOW_FILES = ("test_kills", "test_workers", "test_cli", "test_readme", "test_notebooks", "test_main", "test_package")
_SLOW_FILES += ("test_docs", "test_flag_help")


# The same examples every time: what is green stays so. `--hypothesis-profile=explore` looks for new ones.
# No limit of time: a machine may be slow.
_unhurried = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("steady", derandomize=True, **_unhurried)
hypothesis.settings.register_profile("explore", print_blob=True, **_unhurried)
hypothesis.settings.load_profile("steady")


def pytest_addoption(parser):
    about = "Run one part of so many, by files: XLA's programs stay in a process's memory until it ends."
    parser.addoption("--part", default="1/1", help=about)


def pytest_configure():
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
    # Graphs here run for a few steps, and optimising one takes seconds. The tests with processes of their own optimise.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def pytest_collection_modifyitems(config, items):
    part, parts = map(int, config.getoption("--part").split("/"))
    mine = set(sorted({item.path for item in items})[part - 1 :: parts])
    config.hook.pytest_deselected(items=[item for item in items if item.path not in mine])
    items[:] = [item for item in items if item.path in mine]
    items.sort(key=lambda item: any(name in item.nodeid for name in _SLOW_FILES))
