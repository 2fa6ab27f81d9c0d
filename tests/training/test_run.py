"""The outer loop: what a run writes, what it refuses, how it ends."""

import json
import os
import resource
import signal
import threading

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import data_provider, event_accumulator, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import backend_context, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata

import zoo
from tests.helpers.small import SmallConfig, build
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
    assert runs == {"train", "eval", "test", "folder"}
    tags = {
        run: set(multiplexer.GetAccumulator(f"folder/{run}").Tags()["tensors"]) for run in ("train", "eval", "test")
    }
    assert tags["train"] >= {"loss", "accuracy", "learning_rate", "gradient_norm", "parameter_norm"}
    assert tags["train"] >= {"examples_per_second"}
    assert tags["eval"] == tags["test"] == {"loss", "accuracy"}


def test_hyperparameters_are_one_session(done):
    accumulator = event_accumulator.EventAccumulator(str(done[0]))
    accumulator.Reload()
    content = accumulator.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = hparams_metadata.parse_session_start_info_plugin_data(content)
    assert isinstance(start, plugin_data_pb2.SessionStartInfo)
    assert start.hparams["batch_size"].number_value == 13
    assert start.hparams["optimizer"].string_value == "adam"
    assert "--batch_size=13" in str(accumulator.Tensors("config")[0].tensor_proto.string_val)


def test_tensorboard_joins_metrics_and_hyperparameters(done):
    """The table of the HParams tab, as its own backend makes it: one group a run, with the metrics of both splits."""
    multiplexer = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(done[0].parent))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(done[0].parent))
    context = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    request = RequestContext()
    experiment = context.experiment_from_metadata(
        request,
        "",
        True,
        context.hparams_metadata(request, ""),
        context.hparams_from_data_provider(request, "", limit=100),
        hparams_limit=100,
    )
    metrics = {(metric.name.group, metric.name.tag) for metric in experiment.metric_infos}
    assert metrics >= {("eval", "loss"), ("eval", "accuracy"), ("train", "loss"), ("train", "learning_rate")}


def test_other_peoples_event_files_are_left_alone(tmp_path):
    (tmp_path / "other").mkdir()
    with tf.summary.create_file_writer(str(tmp_path / "other")).as_default():
        for step in range(20):
            tf.summary.scalar("loss", 1.0, step=step)
    before = [path.read_bytes() for path in (tmp_path / "other").iterdir()]
    zoo.run(build, CONFIG, tmp_path)
    assert [path.read_bytes() for path in (tmp_path / "other").iterdir()] == before


def test_several_eval_sets_with_terms_of_their_own(tmp_path):
    def two(config):
        experiment = build(config)
        plain = experiment.evals["eval"]
        marked = {**plain.columns, "marked": np.ones(len(plain.columns["y"]), np.float32)}

        def forward(model, batch, training):
            terms = experiment.forward(model, batch, training)
            more = {"always_one": zoo.Term(batch["marked"])} if "marked" in batch else {}
            return more | terms

        return experiment._replace(forward=forward, evals={"a": plain, "b": zoo.Batches(marked, 4)})

    result = zoo.run(two, CONFIG, tmp_path)
    assert result["b/always_one"] == 1.0 and "a/always_one" not in result
    assert result["a/loss"] == pytest.approx(result["b/loss"]) and result["a/accuracy"] == result["b/accuracy"]


def test_eval_that_is_not_finite_ends_the_run(tmp_path):
    def broken(config):
        experiment = build(config)
        columns = {name: column.copy() for name, column in experiment.evals["eval"].columns.items()}
        columns["x"][3] = np.inf
        columns["x"][3, 0] = -np.inf
        columns["x"][3, 1] = np.nan
        return experiment._replace(evals={"eval": zoo.Batches(columns, 4)})

    with pytest.raises(NonFinite, match="eval/loss not finite at step 3"):
        zoo.run(broken, CONFIG, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"evals": {"train": "eval"}}, "expected names of their own"),
        ({"tests": {"eval": "test"}}, "expected names of their own"),
        ({"evals": {"a/b": "eval"}}, "without a slash"),
        ({"evals": {}}, "--export=best: the experiment has no data set"),
    ],
)
def test_names_of_data_sets(tmp_path, change, said):
    def renamed(config):
        experiment = build(config)
        sets = {"eval": experiment.evals["eval"], "test": experiment.tests["test"]}
        return experiment._replace(**{f: {n: sets[o] for n, o in names.items()} for f, names in change.items()})

    with pytest.raises(BadInput, match=said):
        zoo.run(renamed, CONFIG.replace(export="best"), tmp_path)


def test_a_refused_run_does_not_block_its_folder(done, tmp_path):
    with pytest.raises(BadInput, match="has no checkpoints"):
        zoo.run(build, CONFIG.replace(init_from=str(tmp_path / "nothing")), tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()
    (tmp_path / "torn.keras").write_bytes(b"PK torn")
    with pytest.raises(BadInput, match=r"torn\.keras cannot be read"):
        zoo.run(build, CONFIG.replace(init_from=str(tmp_path / "torn.keras")), tmp_path / "run")
    config = CONFIG.replace(init_from=str(done[0]), ema=0.999, learning_rate=0.0, steps=1)
    result = zoo.run(build, config, tmp_path / "run")
    assert result["eval/loss"] == pytest.approx(done[1]["eval/loss"], rel=1e-5), "averages start from those weights"


def test_best_cannot_be_asked_for_afterwards(tmp_path):
    zoo.run(build, CONFIG, tmp_path)
    with pytest.raises(BadInput, match="this run has kept no best checkpoint"):
        zoo.run(build, CONFIG.replace(export="best"), tmp_path)


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
    assert error.value.exit_code == 3 and not hasattr(error.value, "__notes__")
    found, problems = checkpoints.restore(tmp_path / "checkpoints")
    assert found.step == 1 and not problems


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_before_the_first_step_ends_the_run(tmp_path, number):
    timer = []

    def interrupted(config):
        experiment = build(config)
        timer.append(threading.Timer(0.0, os.kill, (os.getpid(), number)))
        timer[0].start()
        timer[0].join()
        return experiment

    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=f"{number.name}: stopped at once; no step was saved, the same command") as error:
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
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    with pytest.raises(BadInput, match=r"has checkpoints but no run\.json"):
        zoo.run(build, CONFIG, tmp_path)


@pytest.mark.parametrize(
    "content", ['{"config": ', "[]", "3", "[" * 10**5, '{"config": 3}', '{"config": {}, "identity": 3}']
)
def test_torn_run_file(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    with pytest.raises(BadInput, match="cannot be read"):
        zoo.run(build, CONFIG, tmp_path)


def test_batch_smaller_than_the_devices(tmp_path):
    """A batch of 1 on two replicas in two micro-batches is padded, not refused: the run is the same."""
    config = CONFIG.replace(batch_size=1, steps=3, log_every=1)
    one = zoo.run(build, config, tmp_path / "one")
    many = zoo.run(build, config.replace(cpu_devices=2, accumulate=2), tmp_path / "many")
    assert many["train/loss"] == pytest.approx(one["train/loss"], abs=1e-5)
    assert many["test/loss"] == pytest.approx(one["test/loss"], abs=1e-5)
