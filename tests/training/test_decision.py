"""--cost and --threshold_for: tuned after training, stored with the model, used by every command."""

import json

import numpy as np
import pytest

import zoo
from experiments import bert_finetune, lstm_sentiment, mlp_classifier
from experiments.bert_finetune import FinetuneConfig
from experiments.lstm_sentiment import LstmConfig
from experiments.mlp_classifier import MlpConfig
from zoo.cli.main import main
from zoo.data.datasets import images
from zoo.errors import BadInput
from zoo.predict.evaluation.evaluate import evaluate

FLAGS = dict(recipe="plain", epochs=0, steps=300, batch_size=64, learning_rate=0.01, show="none", graph=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One class in ten, which overlaps with the other; and what errors cost."""
    folder = tmp_path_factory.mktemp("decision")
    draw = np.random.default_rng(0)
    labels = draw.permutation(np.repeat([0, 1], [5400, 600]))
    x = draw.normal(size=6000) + 1.5 * labels
    rows = [f"{value:.4f},{('ok', 'fraud')[label]}" for value, label in zip(x, labels)]
    (folder / "table.csv").write_text("\n".join(["x,label", *rows]))
    (folder / "cost.csv").write_text("true,ok,fraud\nok,0,1\nfraud,20,0\n")
    return folder


def config_of(folder, **changes):
    return MlpConfig(dataset=str(folder / "table.csv"), baseline=False, **{**FLAGS, **changes})


@pytest.fixture(scope="module")
def by_threshold(folder):
    config = config_of(folder, threshold_for="f1", positive_class="fraud")
    return folder / "threshold", zoo.run(mlp_classifier.build, config, folder / "threshold")


@pytest.fixture(scope="module")
def by_cost(folder):
    config = config_of(folder, cost=str(folder / "cost.csv"), imbalance="logit_adjusted")
    return folder / "cost", zoo.run(mlp_classifier.build, config, folder / "cost")


def predicted(workdir, capsys, *arguments):
    assert main(["predict", str(workdir), *map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_threshold_is_used_everywhere(folder, by_threshold, capsys):
    workdir, result = by_threshold
    rule = json.loads((workdir / "model.json").read_text())["decision"]
    # Classes are in alphabetical order: fraud is the first one.
    assert rule["positive"] == 0 and rule["metric"] == "f1" and 0.1 < rule["threshold"] < 0.5
    predictor, test = zoo.load(workdir), images.load(str(folder / "table.csv")).test
    probabilities = predictor.probabilities(test["x"])
    decided = predictor.decide(probabilities)
    assert (decided == np.where(probabilities[:, 0] >= rule["threshold"], 0, 1)).all()
    assert (decided != probabilities.argmax(axis=1)).any()
    hits = ((decided == 0) & (test["y"] == 0)).sum()
    f1 = 2 * hits / ((decided == 0).sum() + (test["y"] == 0).sum())
    assert result["test/f1_decided"] == pytest.approx(f1) and f1 > result["test/f1/fraud"]
    assert result["test/f1_decided_low"] < f1 < result["test/f1_decided_high"]
    again = evaluate(workdir)
    for name in ("f1_decided", "recall_decided_high", "balanced_accuracy_decided", "f1/fraud", "majority_share"):
        assert again[name] == pytest.approx(result[f"test/{name}"], abs=1e-6)
    number = int(np.flatnonzero(decided != probabilities.argmax(axis=1))[0])
    np.savez(folder / "one.npz", x=test["x"][number : number + 1])
    [line] = predicted(workdir, capsys, "--json", folder / "one.npz")
    answer = json.loads(line)
    assert answer["class"] == "fraud" and answer["probability"] == pytest.approx(probabilities[number, 0], abs=1e-5)
    [line] = predicted(workdir, capsys, "--top=2", folder / "one.npz")
    assert [cell for cell in line.split("\t") if cell in ("ok", "fraud")] == ["fraud", "ok"]
    assert predictor.with_model(predictor.model, ("a", "b")).decision is None
    assert predictor.with_model(predictor.model, predictor.classes).decision == predictor.decision


def test_costs_are_lower_by_decisions_of_expected_cost(folder, by_cost):
    workdir, result = by_cost
    assert result["test/cost_decided"] < result["test/cost"]
    predictor, test = zoo.load(workdir), images.load(str(folder / "table.csv")).test
    decided, costs = predictor.decide(predictor.probabilities(test["x"])), np.array([[0.0, 20.0], [1.0, 0.0]])
    # As classes: fraud, ok.
    assert predictor.classes == ("fraud", "ok") and predictor.decision.costs == ((0.0, 20.0), (1.0, 0.0))
    assert result["test/cost_decided"] == pytest.approx(costs[test["y"], decided].mean())


def test_a_finished_run_may_change_its_rule(folder, by_threshold, tmp_path):
    """Nothing is trained again, and what was measured of the most probable class stays."""
    workdir, before = by_threshold
    after = zoo.run(mlp_classifier.build, config_of(folder, threshold_for="balanced_accuracy"), workdir)
    assert json.loads((workdir / "model.json").read_text())["decision"]["metric"] == "balanced_accuracy"
    assert all(after[name] == before[name] for name in ("test/accuracy", "test/f1_macro", "test/loss"))
    none = zoo.run(mlp_classifier.build, config_of(folder), workdir)
    assert zoo.load(workdir).decision is None and "test/f1_decided" not in none


def test_a_damaged_rule_is_one_line(by_cost, tmp_path):
    workdir, _ = by_cost
    path = workdir / "model.json"
    text = path.read_text()
    path.write_text(text.replace('"costs": [', '"costs": [[0, 1],', 1))
    try:
        with pytest.raises(BadInput, match="does not fit 2 classes"):
            zoo.load(workdir)
    finally:
        path.write_text(text)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cost": "cost.csv", "threshold_for": "f1"}, "expected one of the two"),
        ({"positive_class": "fraud"}, "--positive_class=fraud is for --threshold_for"),
        ({"threshold_for": "f1", "positive_class": "frauds"}, "expected one of fraud, ok"),
        ({"threshold_for": "f3"}, "expected f1, balanced_accuracy"),
        ({"cost": "none.csv"}, "no such file"),
    ],
)
def test_refused(folder, changes, said):
    with pytest.raises(BadInput, match=said):
        mlp_classifier.build(config_of(folder, **changes))


@pytest.mark.parametrize(
    ("build", "config", "said"),
    [
        (mlp_classifier.build, MlpConfig(threshold_for="f1"), "for two classes, the data has 10; use --cost"),
        (lstm_sentiment.build, LstmConfig(objective="language_model", threshold_for="f1"), "it is for classes"),
        (bert_finetune.build, FinetuneConfig(task="regression", cost="cost.csv"), "it is for classes"),
    ],
)
def test_refused_of_other_data(build, config, said):
    with pytest.raises(BadInput, match=said):
        build(config)


def test_of_texts(tmp_path, monkeypatch, capsys):
    """An LSTM, whose network's share is tuned first; the decided class is the one that is explained."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    draw = np.random.default_rng(0)
    lines = []
    for number in range(300):
        label = int(number % 6 == 0)
        words = [("plain", "awful")[label if draw.random() < 0.7 else 1 - label], *draw.choice(["a", "b", "c"], 4)]
        lines.append(json.dumps({"text": f"{number} {' '.join(words)}", "label": ("no", "yes")[label]}))
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    (tmp_path / "cost.csv").write_text("true,no,yes\nno,0,1\nyes,1000,0\n")
    config = LstmConfig(
        train_file=str(tmp_path / "texts.jsonl"), tokenizer="word", vocabulary=20, width=6, units=6, epochs=0, steps=20,
        baseline=False, cost=str(tmp_path / "cost.csv"), lstm="scan", show="none", graph=False,
    )  # fmt: skip
    result = zoo.run(lstm_sentiment.build, config, tmp_path / "run")
    assert result["test/cost_decided"] < 1.0 < result["test/cost"]
    assert evaluate(tmp_path / "run")["cost_decided"] == pytest.approx(result["test/cost_decided"], abs=1e-6)
    [line] = predicted(tmp_path / "run", capsys, "--explain", "--json", "--text", "plain a b c")
    answer = json.loads(line)
    assert answer["class"] == "yes" and answer["probability"] < 0.5
