"""`--seeds`: each run is the one with its seed alone, a stopped one goes on, and the summary is right."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import zoo
from experiments import bert_pretrain, language_model, mlp_classifier
from experiments.bert_pretrain import PretrainConfig
from experiments.language_model import LanguageModelConfig
from experiments.mlp_classifier import MlpConfig
from zoo.engine.engine import Engine
from zoo.errors import BadInput
from zoo.training import several_seeds

ROOT = Path(__file__).parents[2]
ROWS, FIRST, SEEDS = 120, 5, 3
NAMES = [f"seed_{FIRST + k}" for k in range(SEEDS)]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "table.csv"
    rng = np.random.default_rng(5)
    a, b, noise = rng.normal(size=(3, ROWS))
    label = np.where(a + 0.7 * noise > 0, "yes", "no")
    path.write_text("a,b,label\n" + "".join(f"{a[i]:.6f},{b[i]:.6f},{label[i]}\n" for i in range(ROWS)))
    return path


def options(table, **changes):
    given = {"dataset": str(table), "recipe": "plain", "epochs": 0, "steps": 20, "batch_size": 16, "dropout": 0.2}
    given |= {"checkpoint_every": 5, "steps_per_loop": 5, "baseline": True, "graph": False, "show": "none"}
    return given | {"seed": FIRST, "seeds": SEEDS} | changes


def config(table, **changes):
    return MlpConfig(**options(table, **changes))


def command(table, workdir, **changes):
    """The arguments of a command line, and its environment."""
    flags = [f"--{name}={value}" for name, value in options(table, **changes).items() if value is not None]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    return [*flags, f"--workdir={workdir}"], {"cwd": ROOT, "env": environment, "capture_output": True, "text": True}


@pytest.fixture(scope="module")
def whole(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, zoo.run(mlp_classifier.build, config(table), folder)


def results(folder, names=NAMES):
    return [json.loads((folder / name / "result.json").read_text()) for name in names]


def same_run(folder, other):
    """Whether two runs have ended alike: weights and moments byte for byte, and the results but for the clock."""
    checkpoints = [(each / "checkpoints" / "step-00000020" / "state.safetensors") for each in (folder, other)]
    metrics = [json.loads((each / "result.json").read_text()) for each in (folder, other)]
    for each in metrics:
        each.pop("train/examples_per_second", None)
    return metrics[0] == metrics[1] and checkpoints[0].read_bytes() == checkpoints[1].read_bytes()


def test_the_summary_is_the_mean_of_the_seeds_with_students_interval(whole, capsys):
    folder, result = whole
    summary = json.loads((folder / "seeds.json").read_text())
    runs = results(folder)
    assert summary["seeds"] == [5, 6, 7] and result["seeds"] == 3
    for name in ("test/accuracy", "test/log_loss", "test/baseline_accuracy", "test/majority_share"):
        values = np.array([run[name] for run in runs])
        spread = stats.sem(values)
        low, high = stats.t.interval(0.95, 2, values.mean(), spread) if spread else (values.mean(), values.mean())
        one = summary["metrics"][name]
        assert np.allclose([one["mean"], one["low"], one["high"]], [values.mean(), low, high])
        assert one["values"] == values.tolist()
        assert np.allclose([result[name], result[f"{name}_low"], result[f"{name}_high"]], [values.mean(), low, high])
    assert len({run["test/log_loss"] for run in runs}) == 3
    assert not any(name.startswith(("train/", "eval/")) or "confusion" in name for name in summary["metrics"])
    losses = [run["test/log_loss"] for run in runs]
    line = next(line for line in again(whole, capsys).splitlines() if line.startswith("log_loss"))
    low, high = stats.t.interval(0.95, 2, np.mean(losses), stats.sem(losses))
    assert line.split() == ["log_loss", *(f"{n:.4f}" for n in (np.mean(losses), low)), "..", *(
        f"{n:.4f}" for n in (high, min(losses), max(losses))
    )]  # fmt: skip


def again(whole, capsys):
    """What the same command prints when all runs are finished."""
    folder, result = whole
    saved = json.loads((folder / "runs.json").read_text())["config"]
    capsys.readouterr()
    assert zoo.run(mlp_classifier.build, config(saved["dataset"]), folder) == result
    text = capsys.readouterr().err
    assert text.count("finished before") == 3
    return text


def test_a_run_is_bit_for_bit_the_command_with_its_seed_alone_and_its_flagfile_is_that_one(whole, table, tmp_path):
    arguments, process = command(table, tmp_path, seed=6, seeds=None)
    done = subprocess.run([sys.executable, "-m", "experiments.mlp_classifier", *arguments], **process)
    assert done.returncode == 0, done.stderr
    assert same_run(whole[0] / "seed_6", tmp_path) and not (tmp_path / "runs.json").exists()
    alone, member = ((folder / "flags.txt").read_text().splitlines() for folder in (tmp_path, whole[0] / "seed_6"))
    # One of the two was given as a fraction.
    alone, member = ([line.replace("=0.0", "=0") for line in lines] for lines in (alone, member))
    assert alone[:-1] == member[:-1] and "--seed=6" in member and "--seeds=1" in member
    assert member[-1] == f"--workdir={whole[0] / 'seed_6'}"


def test_stopped_in_the_second_seed_the_same_command_ends_with_the_same_results(whole, table, tmp_path):
    arguments, process = command(table, tmp_path)
    code = (
        "import os, signal, sys\n"
        "import zoo\n"
        "from experiments import mlp_classifier\n"
        "from zoo.engine.engine import Engine\n"
        "real, starts = Engine.train, []\n"
        "def train(engine, batches, step, count):\n"
        "    if step == 0: starts.append(1)\n"
        "    if len(starts) == 2 and step >= 10: os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return real(engine, batches, step, count)\n"
        "Engine.train = train\n"
        "zoo.main(mlp_classifier.build, mlp_classifier.MlpConfig, workdir='')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], **process)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert "that was seed 6, 2 of 3; 1 finished before it" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "seeds.json").exists() and not (tmp_path / "seed_7").exists()
    first = (tmp_path / "seed_5" / "run.json").stat().st_mtime_ns
    done = subprocess.run([sys.executable, "-m", "experiments.mlp_classifier", *arguments], **process)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == json.loads(json.dumps(whole[1]))
    assert (tmp_path / "seed_5" / "run.json").stat().st_mtime_ns == first
    assert all(same_run(whole[0] / name, tmp_path / name) for name in NAMES)
    assert (tmp_path / "seeds.json").read_bytes() == (whole[0] / "seeds.json").read_bytes()


def test_more_seeds_and_more_steps_go_on_from_the_finished_runs(whole, table, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    # As a version without the flag has recorded it.
    for path in [*folder.glob("seed_*/run.json"), folder / "runs.json"]:
        saved = json.loads(path.read_text())
        del saved["config"]["seeds"]
        saved.pop("configs", None)
        path.write_text(json.dumps(saved))
    real, steps = Engine.train, []

    def train(engine, batches, step, count):
        steps.append(step)
        return real(engine, batches, step, count)

    monkeypatch.setattr(Engine, "train", train)
    found = zoo.run(mlp_classifier.build, config(table, seeds=4), folder)
    assert found["seeds"] == 4 and steps[0] == 0 and steps.count(0) == 1
    values = [run["test/log_loss"] for run in results(folder, [*NAMES, "seed_8"])]
    assert np.isclose(found["test/log_loss"], np.mean(values))
    steps.clear()
    longer = zoo.run(mlp_classifier.build, config(table, seeds=2, steps=25), folder)
    assert longer["seeds"] == 2 and steps.count(20) == 2 and min(steps) == 20
    assert [run["step"] for run in results(folder)] == [25, 25, 20]


def test_a_folder_of_seeds_takes_no_other_run(whole, table):
    folder = whole[0]
    before = (folder / "runs.json").read_bytes()
    with pytest.raises(BadInput, match="--seed was 5, is 6"):
        zoo.run(mlp_classifier.build, config(table, seed=6), folder)
    with pytest.raises(BadInput, match="belongs to several runs"):
        zoo.run(mlp_classifier.build, config(table, seeds=1), folder)
    with pytest.raises(BadInput, match="--folds was 0, is 2"):
        zoo.run(mlp_classifier.build, config(table, seeds=1, folds=2), folder)
    with pytest.raises(BadInput, match="belongs to a single run"):
        zoo.run(mlp_classifier.build, config(table), folder / "seed_5")
    assert (folder / "runs.json").read_bytes() == before


def test_the_last_seeds_of_32_bits_run_and_those_above_are_refused(table, tmp_path):
    last = config(table, seed=2**32 - 2, seeds=2, steps=2, baseline=False, compile="none")
    assert zoo.run(mlp_classifier.build, last, tmp_path / "last")["seeds"] == 2
    assert json.loads((tmp_path / "last" / "seeds.json").read_text())["seeds"] == [4294967294, 4294967295]
    with pytest.raises(BadInput, match="expected --seed <= 4294967293"):
        zoo.run(mlp_classifier.build, last.replace(seeds=3), tmp_path / "above")
    assert not (tmp_path / "above").exists()


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"folds": 3}, "--seeds=3 with all folds"),
        ({"find_label_errors": True}, "--seeds=3 with all folds"),
        ({"strategy": "multiworker"}, "--seeds=3 with several workers"),
    ],
)
def test_flags_that_contradict_seeds_are_refused_before_anything_is_written(table, tmp_path, changes, said):
    with pytest.raises(BadInput, match=said):
        zoo.run(mlp_classifier.build, config(table, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_workers_of_the_environment_are_refused_and_so_is_no_seed_at_all(table, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(BadInput, match="several workers"):
        zoo.run(mlp_classifier.build, config(table), tmp_path / "run")
    with pytest.raises(BadInput, match="--seeds is 0"):
        config(table, seeds=0)
    assert not (tmp_path / "run").exists()


def test_one_fold_with_several_seeds(table, tmp_path):
    found = zoo.run(
        mlp_classifier.build, config(table, folds=3, fold=2, seeds=2, steps=2, baseline=False, compile="none"), tmp_path
    )
    lines = [
        [row.split(",")[0] for row in (tmp_path / name / "test" / "predictions.csv").read_text().splitlines()]
        for name in NAMES[:2]
    ]
    assert found["seeds"] == 2 and lines[0] == lines[1] and len(lines[0]) == ROWS // 3 + 1


def test_language_models_and_pretraining_have_seeds(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"{'abc' * (k % 5)} line {k % 7} of words {k}" for k in range(400)))
    small = {"train_file": str(text), "epochs": 0, "steps": 2, "seeds": 2, "width": 8, "heads": 2, "layers": 1}
    small |= {"context": 16, "batch_size": 4, "compile": "none", "vocabulary": 80, "warmup_steps": 0}
    words = LanguageModelConfig(**small, recipe="plain")
    pieces = PretrainConfig(**small, tokenizer="word")
    for build, settings, metric in (
        (language_model.build, words, "test/loss"),
        (bert_pretrain.build, pieces, "test/loss"),
    ):
        folder = tmp_path / type(settings).__name__
        found = zoo.run(build, settings, folder)
        values = [run[metric] for run in results(folder, ["seed_0", "seed_1"])]
        assert values[0] != values[1] and np.isclose(found[metric], np.mean(values))
        assert found[f"{metric}_low"] < min(values) and found[f"{metric}_high"] > max(values)


def test_runs_without_a_test_set_are_summarized_by_their_validation_set():
    runs = [{"step": 3, "train/loss": 1.0 + k, "eval/loss": 2.0 + k} for k in range(3)]
    assert list(several_seeds.summaries(runs)) == ["eval/loss"]
    found = several_seeds.summaries([run | {"holdout/loss": 4.0} for run in runs])
    assert found == {"holdout/loss": (4.0, 4.0, 4.0, (4.0, 4.0, 4.0))}
    assert "holdout/loss  4.0000" in several_seeds.report(3, found)
