"""The outer loop: what a run writes, what it refuses, how it ends."""

import json
import os
import resource
import signal
import threading

import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator, plugin_event_multiplexer
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams import plugin_data_pb2

import zoo
from tests.small import SmallConfig, build
from zoo import workdir as folders
from zoo.engine import checkpoints
from zoo.errors import BadInput, NonFinite, Stopped

CONFIG = SmallConfig(epochs=0, steps=6, log_every=2, eval_every=3)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "deep" / "folder"
    return folder, zoo.run(build, CONFIG, folder)


def test_files_and_result(done):
    folder, result = done
    names = {path.name for path in folder.iterdir()}
    assert {"model.keras", "model.json", "result.json", "flags.txt", "run.json", "checkpoints"} <= names
    assert json.loads((folder / "result.json").read_text()) == result
    for name in ("step", "train/loss", "train/accuracy", "eval/loss", "eval/accuracy", "test/loss", "test/accuracy"):
        assert name in result
    assert not [name for name in names if "partial" in name]


def test_tensorboard_reads_it(done):
    multiplexer = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(done[0].parent))
    multiplexer.Reload()
    runs = {run.removeprefix("folder/") for run in multiplexer.Runs()}
    assert runs == {"train", "eval", "hparams"}
    tags = {run: set(multiplexer.GetAccumulator(f"folder/{run}").Tags()["tensors"]) for run in runs}
    assert tags["train"] >= {"loss", "accuracy", "learning_rate", "gradient_norm", "parameter_norm"}
    assert tags["train"] >= {"examples_per_second"}
    assert tags["eval"] == {"loss", "accuracy"}


def test_hyperparameters_are_one_session(done):
    accumulator = event_accumulator.EventAccumulator(str(done[0] / "hparams"))
    accumulator.Reload()
    content = accumulator.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = hparams_metadata.parse_session_start_info_plugin_data(content)
    assert isinstance(start, plugin_data_pb2.SessionStartInfo)
    assert start.hparams["batch_size"].number_value == 13
    assert start.hparams["optimizer"].string_value == "adam"
    assert "--batch_size=13" in str(accumulator.Tensors("config")[0].tensor_proto.string_val)


def test_same_config_same_run(done, tmp_path):
    again = zoo.run(build, CONFIG, tmp_path)
    assert all(again[name] == value for name, value in done[1].items() if "per_second" not in name)
    one, two = (checkpoints.restore(folder / "checkpoints")[0].state for folder in (done[0], tmp_path))
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_parameter_norm_is_of_the_weights(done):
    state = checkpoints.restore(done[0] / "checkpoints")[0].state
    squares = sum(np.sum(np.square(v.astype(np.float64))) for name, v in state.items() if name.startswith("model/"))
    assert done[1]["train/parameter_norm"] == pytest.approx(np.sqrt(squares), rel=1e-5)


def test_starts_from_other_weights(done, tmp_path):
    for number, source in enumerate((done[0], done[0] / "model.keras")):
        config = CONFIG.replace(init_from=str(source), learning_rate=0.0, steps=1)
        result = zoo.run(build, config, tmp_path / str(number))
        assert result["eval/loss"] == pytest.approx(done[1]["eval/loss"], rel=1e-5)
    with pytest.raises(BadInput, match="the weights do not fit the model"):
        zoo.run(build, CONFIG.replace(init_from=str(done[0]), norm="layer"), tmp_path / "other")
    with pytest.raises(BadInput, match="has no checkpoints: expected a workdir"):
        zoo.run(build, CONFIG.replace(init_from=str(tmp_path)), tmp_path / "nothing")


def test_not_finite_keeps_the_last_good_checkpoint(tmp_path):
    config = CONFIG.replace(optimizer="sgd", learning_rate=3e38, checkpoint_every=1, steps=50)
    with pytest.raises(NonFinite, match=r"not finite in steps 1 to 1; the checkpoint of step 1 is kept") as error:
        zoo.run(build, config, tmp_path)
    assert error.value.exit_code == 3
    found, problems = checkpoints.restore(tmp_path / "checkpoints")
    assert found.step == 1 and not problems


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_and_says_so(tmp_path, number):
    timer = []

    def interrupted(config):
        experiment = build(config)
        timer.append(threading.Timer(0.0, os.kill, (os.getpid(), number)))
        timer[0].start()
        timer[0].join()
        return experiment

    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=f"{number.name}: saved at step 0; the same command goes on") as error:
        zoo.run(interrupted, CONFIG, tmp_path)
    assert error.value.exit_code == 128 + number
    assert signal.getsignal(number) is before
    assert zoo.run(build, CONFIG, tmp_path)["step"] == 6


def test_full_disk_keeps_what_was_there(tmp_path):
    config = CONFIG.replace(checkpoint_every=1)
    zoo.run(build, config.replace(steps=2), tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel refuses any file to grow beyond this, as a full disk would.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(BadInput, match=r"cannot write the checkpoint .*step-00000003: .*; the earlier checkpoints"):
            zoo.run(build, config.replace(steps=4), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoints.restore(tmp_path / "checkpoints")[0].step == 2
    assert zoo.run(build, config.replace(steps=4), tmp_path)["step"] == 4


def test_workdir_in_use(tmp_path):
    with folders.owned(tmp_path), pytest.raises(BadInput, match="is in use by another run"):
        zoo.run(build, CONFIG, tmp_path)


@pytest.mark.parametrize("path", ["/proc/nothing/here", "/dev/null/run"])
def test_workdir_that_cannot_be_written(path):
    with pytest.raises(BadInput, match="cannot be written"):
        zoo.run(build, CONFIG, path)


def test_checkpoints_of_nobody(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(BadInput, match=r"has checkpoints but no run\.json"):
        zoo.run(build, CONFIG, tmp_path)


def test_torn_run_file(done, tmp_path):
    (tmp_path / "run.json").write_text('{"config": ')
    with pytest.raises(BadInput, match="cannot be read"):
        zoo.run(build, CONFIG, tmp_path)


def test_batch_smaller_than_the_devices(tmp_path):
    """A batch of 1 on two replicas in two micro-batches is padded, not refused: the run is the same."""
    config = CONFIG.replace(batch_size=1, steps=3, log_every=1)
    one = zoo.run(build, config, tmp_path / "one")
    many = zoo.run(build, config.replace(cpu_devices=2, accumulate=2), tmp_path / "many")
    assert many["train/loss"] == pytest.approx(one["train/loss"], abs=1e-5)
    assert many["test/loss"] == pytest.approx(one["test/loss"], abs=1e-5)
