"""A run that was stopped anywhere ends bitwise where the uninterrupted one ends."""

import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from tests.helpers.small import SmallConfig, build, furthest
from zoo.engine import checkpoints, manifest
from zoo.errors import BadInput, DamagedCheckpoints
from zoo.tensorboard import event_files
from zoo.training.run_state import RunState

# Two epochs of three steps and one step more; every log window, evaluation and checkpoint falls somewhere else.
CONFIG = SmallConfig(
    epochs=0, steps=7, dropout=0.3, optimizer="adamw", ema=0.9, clip_norm=0.5, log_every=2, eval_every=3,
    checkpoint_every=1, keep=100, weighted=True, export="best",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run with a checkpoint at every step."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, zoo.run(build, CONFIG, folder)


def final_state(workdir, step=7):
    return checkpoints.restore(workdir / "checkpoints", step)[0]


def points(workdir):
    """Every scalar of the event files, but for those of the clock and of the machine's memory."""
    found = {}
    for run in ("train", "eval", "test"):
        for event in event_files.read(workdir / run):
            for value in event.summary.value:
                is_scalar = value.metadata.plugin_data.plugin_name == "scalars"
                if is_scalar and "per_second" not in value.tag and "memory" not in value.tag:
                    found.setdefault((run, value.tag), []).append((event.step, float(tf.make_ndarray(value.tensor))))
    return found


def untimed(result):
    return {name: value for name, value in result.items() if "per_second" not in name}


def as_if_killed(whole, tmp_path, step):
    """The folder of a run that was killed after it saved this step, its event files already further on."""
    folder = tmp_path / "killed"
    shutil.copytree(whole, folder)
    for path in (folder / "checkpoints").glob("step-*"):
        if int(path.name.removeprefix("step-")) > step:
            shutil.rmtree(path)
    (folder / "result.json").unlink()
    return folder


@pytest.mark.parametrize("step", range(1, 7))
def test_resume_at_every_step_is_bitwise(whole, tmp_path, step):
    folder = as_if_killed(whole[0], tmp_path, step)
    result = zoo.run(build, CONFIG, folder)
    assert untimed(result) == untimed(whole[1])
    expected, found = final_state(whole[0]), final_state(folder)
    assert all(np.array_equal(expected.state[name], found.state[name]) for name in expected.state)
    assert points(folder) == points(whole[0])


def test_history_has_neither_gaps_nor_doubles(whole):
    steps = {name: [step for step, _ in values] for name, values in points(whole[0]).items()}
    assert steps[("train", "loss")] == [2, 4, 6, 7]
    assert steps[("eval", "loss")] == steps[("eval", "accuracy")] == [3, 6, 7]
    assert {tag for run, tag in steps if run == "train"} >= {"loss", "accuracy", "learning_rate", "gradient_norm"}


def test_finished_run_is_not_trained_again(whole, tmp_path):
    folder = as_if_killed(whole[0], tmp_path, 7)
    os.mkfifo(folder / "train" / "events.out.tfevents.0.pipe")  # Nobody writes to it; a reader would wait for ever.
    assert untimed(zoo.run(build, CONFIG, folder)) == untimed(whole[1])
    assert points(folder) == points(whole[0])


def test_another_number_of_replicas_resumes(whole, tmp_path):
    folder = as_if_killed(whole[0], tmp_path, 3)
    zoo.run(build, CONFIG.replace(cpu_devices=2, accumulate=2), folder)
    assert furthest(final_state(whole[0]).state, final_state(folder).state) < 3e-6


def test_exact_run_resumes_bitwise_on_any_devices(tmp_path):
    """Begun on 4 replicas, resumed on 2 and on 1."""
    config = CONFIG.replace(exact=True)
    one = zoo.run(build, config, tmp_path / "one")
    folder = tmp_path / "four"
    zoo.run(build, config.replace(cpu_devices=4), folder)
    for step, devices in ((2, 2), (5, 1)):
        before, folder = folder, tmp_path / str(devices)
        folder.mkdir()
        folder = as_if_killed(before, folder, step)
        result = zoo.run(build, config.replace(cpu_devices=devices), folder)
        assert untimed(result) == untimed(one)
        expected, found = final_state(tmp_path / "one"), final_state(folder)
        assert all(np.array_equal(expected.state[name], found.state[name]) for name in expected.state)
        assert points(folder) == points(tmp_path / "one")


def test_run_on_several_devices_stays_exact_on_one(tmp_path, capsys):
    """Its slices are recorded, so the same command on one device, and its flags.txt, end in the same bits."""
    # Starts TensorFlow with all devices of the tests.
    tf.config.list_logical_devices()
    folder, config = tmp_path / "two", CONFIG.replace(compile="auto")
    two = zoo.run(build, config.replace(cpu_devices=2), folder)
    assert {f"--exact={True}", "--slices=2"} <= set((folder / "flags.txt").read_text().splitlines())
    assert untimed(zoo.run(build, config, as_if_killed(folder, tmp_path, 3))) == untimed(two)
    (tmp_path / "loop").mkdir()
    loop = as_if_killed(folder, tmp_path / "loop", 6)
    assert zoo.run(build, config.replace(compile="loop"), loop)["step"] == 7
    (tmp_path / "three").mkdir()
    capsys.readouterr()
    zoo.run(build, config.replace(cpu_devices=3), as_if_killed(folder, tmp_path / "three", 3))
    said = capsys.readouterr().err
    assert "the run was exact in 2 slices, which 3 devices with --accumulate=1 cannot share: it goes on" in said


def test_more_steps_go_on(whole, tmp_path):
    folder = as_if_killed(whole[0], tmp_path, 7)
    longer = zoo.run(build, CONFIG.replace(steps=9, export="last"), folder)
    direct = zoo.run(build, CONFIG.replace(steps=9, export="last"), tmp_path / "direct")
    assert longer["step"] == 9
    assert longer["eval/loss"] == direct["eval/loss"]


def test_fewer_steps_are_refused(whole, tmp_path):
    folder = as_if_killed(whole[0], tmp_path, 7)
    with pytest.raises(BadInput, match="--steps is 5: this run has done 7"):
        zoo.run(build, CONFIG.replace(steps=5), folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch_size": 12}, "--batch_size was 13, is 12"),
        ({"seed": 1}, "--seed was 0, is 1"),
        ({"examples": 30}, "training data was"),
        ({"norm": "layer"}, "model was"),
        ({"learning_rate": 0.1}, "--learning_rate was 0.02, is 0.1"),
    ],
)
def test_contradicting_config_names_the_field(whole, tmp_path, change, said):
    folder = as_if_killed(whole[0], tmp_path, 7)
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    with pytest.raises(BadInput, match=said):
        zoo.run(build, CONFIG.replace(**change), folder)
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before


def test_schedule_length_is_part_of_the_run(tmp_path):
    config = SmallConfig(epochs=0, steps=2, schedule="cosine")
    zoo.run(build, config, tmp_path)
    with pytest.raises(BadInput, match="schedule's length was 2, is 4"):
        zoo.run(build, config.replace(steps=4), tmp_path)


def damage_torn(path):
    (path / "manifest.json").unlink()


def damage_truncated(path):
    file = path / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-7])


def damage_flipped(path):
    file = path / "state.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def damage_missing(path):
    (path / "record.json").unlink()


def damage_manifest(path):
    (path / "manifest.json").write_text('{"format": 1, "files"')


def damage_by_a_copy(path):
    shutil.rmtree(path)
    shutil.copytree(path.with_name("step-00000004"), path)


def damage_record(path):
    record = json.loads((path / "record.json").read_text())
    (path / "record.json").write_text(json.dumps({name: record[name] for name in ("checkpoint", "window", "best")}))
    manifest.write(path, 5)


DAMAGES = [damage_truncated, damage_missing, damage_record]
# Found by the same comparison of checksums as the first.
ALIKE = [damage_torn, damage_flipped, damage_manifest, damage_by_a_copy]
DAMAGES += [pytest.param(damage, marks=pytest.mark.thorough) for damage in ALIKE]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_passed_over_aloud(whole, tmp_path, damage, capsys):
    folder = as_if_killed(whole[0], tmp_path, 5)
    damage(folder / "checkpoints" / "step-00000005")
    (folder / "checkpoints" / ".partial-00000006-1").mkdir()
    assert untimed(zoo.run(build, CONFIG, folder)) == untimed(whole[1])
    said = capsys.readouterr().err
    assert "checkpoint step-00000005: " in said
    assert "resumed at step 4 of 7" in said
    assert "left by an unfinished save, removed" in said
    assert not list((folder / "checkpoints").glob(".partial*"))


def test_no_good_checkpoint_is_an_error(whole, tmp_path):
    folder = as_if_killed(whole[0], tmp_path, 2)
    for path in (folder / "checkpoints").glob("step-*"):
        damage_flipped(path)
    with pytest.raises(DamagedCheckpoints, match=r"step-00000002: state\.safetensors is damaged"):
        zoo.run(build, CONFIG, folder)


def test_missing_checkpoints_are_no_fresh_start(whole, tmp_path):
    """They were moved or deleted: starting anew would write over the history and the model."""
    folder = as_if_killed(whole[0], tmp_path, 2)
    (folder / "checkpoints").rename(tmp_path / "elsewhere")
    before = sorted(folder.rglob("*"))
    for config, error in ((CONFIG, DamagedCheckpoints), (CONFIG.replace(seed=1), BadInput)):
        with pytest.raises(error, match=r"put them back, or choose another|belongs to another run"):
            zoo.run(build, config, folder)
    assert sorted(folder.rglob("*")) == before
    (tmp_path / "elsewhere").rename(folder / "checkpoints")
    assert untimed(zoo.run(build, CONFIG, folder)) == untimed(whole[1])


@pytest.mark.parametrize(
    "change",
    [
        {"window": 3},
        {"window": {"steps": None}},
        {"best": {"value": 1.0}},
        {"best": {"value": "low", "step": 3, "since": 0}},
        {"done": {"log": 2}},
        {"metrics": {"eval/loss": "NaN"}},
        {"metrics": [["a", {}]]},
    ],
)
def test_records_that_are_none(change):
    good = RunState().record()
    assert RunState.problem(good) is None and RunState.problem(good | change)
    assert all(RunState.problem({n: v for n, v in good.items() if n != name}) for name in good)


def test_best_is_kept_and_exported(tmp_path):
    """A learning rate that makes the run worse: the best is neither among the newest nor the last."""
    config = CONFIG.replace(keep=2, steps=12, learning_rate=2.0, clip_norm=0.0)
    result = zoo.run(build, config, tmp_path)
    kept = sorted(int(path.name.removeprefix("step-")) for path in (tmp_path / "checkpoints").iterdir())
    record = checkpoints.restore(tmp_path / "checkpoints")[0].record
    step = record["best"]["step"]
    assert step < 11
    assert kept == sorted({step, 11, 12})
    best = checkpoints.restore(tmp_path / "checkpoints", step)[0].state
    exported = keras.models.load_model(tmp_path / "model.keras", compile=False).trainable_variables
    averages = [best[name] for name in sorted(best) if name.startswith("average/")]
    assert all(np.array_equal(one.numpy(), other) for one, other in zip(exported, averages, strict=True))
    assert result["best/step"] == step and result["eval/loss"] == record["best"]["value"]
    assert record["metrics"]["eval/loss"] > result["eval/loss"]


def test_flags_file_and_result_are_written(whole):
    folder, result = whole
    assert json.loads((folder / "result.json").read_text()) == result
    text = (folder / "flags.txt").read_text()
    assert "--batch_size=13\n" in text and f"--workdir={folder}" in text and "--weight_decay=" not in text
