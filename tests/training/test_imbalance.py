"""Every --imbalance keeps the promise of a run: replicas, micro-batches and a resume end in the same bits."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from experiments import bert_finetune, lstm_sentiment, mlp_classifier
from experiments.bert_finetune import FinetuneConfig
from experiments.lstm_sentiment import LstmConfig
from experiments.mlp_classifier import MlpConfig
from zoo.engine import checkpoints, devices
from zoo.errors import BadInput
from zoo.models.class_imbalance import METHODS
from zoo.predict.evaluation.evaluate import evaluate
from zoo.training.run import make_engine, total_steps

WORDS = {"common": ["plain", "usual"], "rare": ["awful", "lovely"]}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Three classes of 80, 16 and 4 per cent with example weights; the rare ones overlap with the first."""
    draw = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("table") / "table.csv"
    labels = draw.permutation(np.repeat([0, 1, 2], [240, 48, 12]))
    x = draw.normal(size=(300, 2)) + np.eye(3)[labels][:, :2] * 1.5
    rows = [f"{a:.4f},{b:.4f},{w:.2f},{'abc'[y]}" for (a, b), w, y in zip(x, draw.uniform(0.5, 2, 300), labels)]
    path.write_text("\n".join(["one,two,weight,label", *rows]))
    return path


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Texts of several lengths, one in ten of the second class."""
    draw = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    lines = []
    for number in range(200):
        label = list(WORDS)[number % 10 == 0]
        words = draw.choice([*WORDS[label], "the", "film", "was", "seen", "today"], draw.integers(2, 12))
        lines.append({"text": f"{number} " + " ".join([*words, WORDS[label][number % 2]]), "label": label})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def engine_of(build, config, replicas=1):
    strategy = devices.mirrored_cpus(replicas) if replicas > 1 else devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(config.seed)
        experiment = build(config)
    config = experiment.config
    return make_engine(strategy, config, experiment, total_steps(config, experiment)), experiment.train


def ensemble(table, method):
    return MlpConfig(
        dataset=str(table), weight_column="weight", hidden=(4,), members=2, bins=2, batch_size=96, epochs=0, steps=5,
        exact=True, imbalance=method, baseline=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def plain_state(table):
    tf.config.list_logical_devices()
    engine, batches = engine_of(mlp_classifier.build, ensemble(table, "none"))
    engine.train(batches, 0, 5)
    return engine.state()


@pytest.mark.parametrize("method", METHODS)
def test_replicas_micro_batches_and_a_resume_end_in_the_same_bits(table, plain_state, method):
    """An ensemble for tables, with dropout, label smoothing and example weights; the third batch is short."""
    config = ensemble(table, method)
    one, batches = engine_of(mlp_classifier.build, config)
    one.train(batches, 0, 2)
    at_two = one.state()
    one.train(batches, 2, 3)
    whole = one.state()
    other, batches = engine_of(mlp_classifier.build, config.replace(accumulate=2), replicas=2)
    other.load(at_two)
    other.train(batches, 2, 3)
    assert all(np.array_equal(value, other.state()[name]) for name, value in whole.items())
    assert all(np.array_equal(value, plain_state[name]) for name, value in whole.items()) == (method == "none")


@pytest.mark.parametrize("kind", ["lstm", pytest.param("encoder", marks=pytest.mark.thorough)])
def test_killed_run_with_balanced_batches_of_texts_resumes_bitwise(texts, tmp_path, monkeypatch, kind):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    shared = dict(
        train_file=str(texts), tokenizer="word", vocabulary=20, epochs=0, steps=14, batch_size=16, baseline=False,
        imbalance="balanced_sampling", checkpoint_every=5, eval_every=20, ngrams=False, graph=False, show="none",
    )  # fmt: skip
    if kind == "lstm":
        build, config = lstm_sentiment.build, LstmConfig(width=6, units=6, recipe="plain", lstm="scan", **shared)
    else:
        build = bert_finetune.build
        config = FinetuneConfig(preset="tiny", width=8, heads=2, layers=1, context=18, **shared)
    result = zoo.run(build, config, tmp_path / "whole")
    assert {"test/balanced_accuracy_low", "test/majority_share"} <= result.keys()
    assert "--metric=f1_macro" in (tmp_path / "whole" / "flags.txt").read_text()
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path / "whole", killed)
    for path in (killed / "checkpoints").glob("step-*"):
        if int(path.name.removeprefix("step-")) > 5:
            shutil.rmtree(path)
    zoo.run(build, config, killed)
    states = [checkpoints.restore(folder / "checkpoints", 14)[0].state for folder in (tmp_path / "whole", killed)]
    assert all(np.array_equal(value, states[1][name]) for name, value in states[0].items())
    with pytest.raises(BadInput, match="--imbalance was balanced_sampling, is none"):
        zoo.run(build, config.replace(imbalance="none"), killed)


def test_rare_classes_are_found_more_often(tmp_path):
    """One class in twenty, which overlaps with the other: where they are equally likely, plain training answers it."""
    draw = np.random.default_rng(0)
    labels = draw.permutation(np.repeat([0, 1], [2850, 150]))
    table = tmp_path / "table.csv"
    x = draw.normal(size=3000) + 2.0 * labels
    table.write_text("\n".join(["x,label", *(f"{value:.4f},{label}" for value, label in zip(x, labels))]))
    config = MlpConfig(
        dataset=str(table), recipe="plain", epochs=0, steps=300, batch_size=64, learning_rate=0.01, baseline=False,
        show="none", graph=False,
    )  # fmt: skip
    found = {
        method: zoo.run(mlp_classifier.build, config.replace(imbalance=method), tmp_path / method)
        for method in ("none", "logit_adjusted")
    }
    plain, adjusted = (found[name]["test/balanced_accuracy"] for name in found)
    assert adjusted > plain + 0.1
    assert found["none"]["test/majority_share"] > 0.9
    # The data set by its content under another name: only its test split counts.
    again = shutil.copy(table, tmp_path / "again.csv")
    assert evaluate(tmp_path / "logit_adjusted", str(again))["examples"] < 400


@pytest.mark.parametrize(
    ("build", "config", "said"),
    [
        (lstm_sentiment.build, LstmConfig(objective="language_model", imbalance="focal"), "--objective=language_model"),
        (bert_finetune.build, FinetuneConfig(task="regression", imbalance="weights"), "--task=regression"),
    ],
)
def test_refused_without_classes(build, config, said):
    with pytest.raises(BadInput, match=f"--imbalance={config.imbalance} with {said}: it is for classes"):
        build(config)


def test_recorded_runs_had_none(table, tmp_path):
    """A run.json of before the flag resumes as plain training."""
    config = MlpConfig(dataset=str(table), recipe="plain", epochs=0, steps=3, baseline=False)
    zoo.run(mlp_classifier.build, config, tmp_path)
    path = tmp_path / "run.json"
    saved = json.loads(path.read_text())
    del saved["config"]["imbalance"]
    path.write_text(json.dumps(saved))
    zoo.run(mlp_classifier.build, config.replace(steps=4), tmp_path)
    with pytest.raises(BadInput, match="--imbalance was none, is focal"):
        zoo.run(mlp_classifier.build, config.replace(steps=5, imbalance="focal"), tmp_path)
