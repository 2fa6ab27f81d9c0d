"""`zoo compare`: against the runs' own results, against SciPy, and with runs that cannot be compared."""

import json
import math
import shutil

import numpy as np
import pytest
from scipy import stats

import zoo
from experiments import mlp_classifier, mlp_regressor
from experiments.mlp_classifier import MlpConfig
from experiments.mlp_regressor import RegressorConfig
from zoo.cli import main
from zoo.data.datasets import images
from zoo.studies import pairs

ROWS = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classifiers, one of which has learned nothing, two regressions, and two folders of seeds."""
    place = tmp_path_factory.mktemp("compare")
    draw = np.random.default_rng(5)
    a, b, noise = draw.normal(size=(3, ROWS))
    label = np.where(a + 0.5 * noise > 0, "yes", "no")
    lines = [f"{a[i]:.6f},{b[i]:.6f},{label[i]},{a[i] + b[i]:.6f}\n" for i in range(ROWS)]
    (place / "table.csv").write_text("a,b,label,value\n" + "".join(lines))
    common = {"dataset": str(place / "table.csv"), "epochs": 0.0, "batch_size": 64}
    common |= {"compile": "none", "graph": False, "show": "none", "eval_every": 1000}

    def classifier(name, **changes):
        options = common | {"recipe": "plain", "baseline": False, "ignore_columns": "value"}
        zoo.run(mlp_classifier.build, MlpConfig(**options | changes), place / name)

    classifier("good", steps=60, learning_rate=0.02)
    classifier("bad", steps=1, learning_rate=1e-6)
    classifier("seeds_good", steps=20, learning_rate=0.02, seeds=2)
    (place / "seeds_bad").mkdir()
    saved = json.loads((place / "seeds_good" / "runs.json").read_text())
    for each, seed in (("results", "seed_2"), ("configs", "seed_2")):
        saved[each][seed] = json.loads(json.dumps(saved[each]["seed_1"]))
    saved["configs"]["seed_2"]["seed"] = 2
    for seed, more in enumerate((0.3, 0.1, 0.2)):
        saved["results"][f"seed_{seed}"]["test/log_loss"] += more
    (place / "seeds_bad" / "runs.json").write_text(json.dumps(saved))
    for name, steps in (("values", 30), ("few_values", 1)):
        options = common | {"steps": steps, "label_column": "value", "ignore_columns": "label", "baseline": False}
        zoo.run(mlp_regressor.build, RegressorConfig(**options, members=1, bins=0), place / name)
    return place


def said(capsys, *words):
    """Exit code, stdout and stderr of a command."""
    code = main.main(["compare", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def result(folder):
    return json.loads((folder / "result.json").read_text())


def answers(run):
    """Whether the run answers each test example rightly, from the data and its model."""
    test = images.load(str(run.parent / "table.csv"), ignore_columns="value").test
    predicted = zoo.load(run).logits(test["x"]).argmax(axis=1)
    return predicted == test["y"]


def test_single_runs_have_the_metrics_of_their_results_and_mcnemars_test(folder, capsys):
    code, out, _ = said(capsys, folder / "bad", folder / "good", "--json")
    found = json.loads(out)
    assert code == 0 and found["unit"] == "40 test examples"
    for name in ("bad", "good"):
        whole = result(folder / name)
        for metric, values in found["metrics"].items():
            assert values[name]["value"] == pytest.approx(whole[f"test/{metric}"], abs=1e-5), metric
            assert values[name]["low"] == pytest.approx(whole[f"test/{metric}_low"], abs=1e-5)
    (difference,) = [each for each in found["differences"] if each["metric"] == "accuracy"]
    accuracies = [result(folder / name)["test/accuracy"] for name in ("good", "bad")]
    assert difference["run"] == "good" and difference["other"] == "bad"
    assert difference["value"] == pytest.approx(accuracies[0] - accuracies[1])
    wrong = round(40 * difference["value"])
    # At least so many examples are answered by one of them only, so p is not above that of these alone.
    assert (
        difference["value"] > 0.2 and difference["p"] <= sum(math.comb(40, k) for k in range(20 - wrong // 2)) / 2**39
    )
    assert difference["low"] > 0 and difference["p_holm"] == difference["p"]


def test_the_tables_name_runs_differences_and_tests(folder, capsys):
    code, out, _ = said(capsys, folder / "bad", folder / "good", folder / "seeds_good" / "seed_1")
    lines = out.splitlines()
    assert code == 0 and lines[1].split() == ["metric", "bad", "good", "seed_1"]
    assert sum("accuracy  " in line and " - " in line and "balanced" not in line for line in lines) == 3
    assert "p (Holm)" in out and "McNemar" in lines[-1]
    code, out, _ = said(capsys, folder / "bad", folder / "good", "--metric=ece")
    assert code == 0 and "ece" in out and "accuracy" not in out and "p (Holm)" not in out


def test_seeds_are_paired_by_students_t(folder, capsys):
    code, out, _ = said(capsys, folder / "seeds_bad", folder / "seeds_good", "--json", "--metric=log_loss")
    found = json.loads(out)
    values = [result(folder / "seeds_good" / f"seed_{seed}")["test/log_loss"] for seed in range(2)]
    expected = stats.ttest_rel(values, np.add(values, (0.3, 0.1)))
    (difference,) = found["differences"]
    assert code == 0 and found["unit"] == "2 seeds (0, 1)"
    assert difference["value"] == pytest.approx(-0.2) and difference["p"] == pytest.approx(expected.pvalue)
    assert [difference["low"], difference["high"]] == pytest.approx(list(expected.confidence_interval()))
    summary = json.loads((folder / "seeds_good" / "seeds.json").read_text())["metrics"]["test/log_loss"]
    shown = found["metrics"]["log_loss"]["seeds_good"]
    assert [shown["value"], shown["low"], shown["high"]] == pytest.approx([summary[n] for n in ("mean", "low", "high")])
    assert "left out of seeds_bad: seed 2" in found["notes"][-1]


def test_regressions_are_compared_by_the_bootstrap(folder, capsys):
    code, out, _ = said(capsys, folder / "few_values", folder / "values")
    assert code == 0 and "McNemar" not in out
    assert [line.split()[0] for line in out.splitlines()[2:5]] == ["rmse", "mae", "r2"]
    difference = next(line for line in out.splitlines() if line.startswith("values - few_values") and "rmse" in line)
    expected = result(folder / "values")["test/rmse"] - result(folder / "few_values")["test/rmse"]
    assert f"{expected:+.4f}" in difference and expected < 0


def test_what_cannot_be_compared_is_one_line(folder, capsys, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder / "good", other)
    lines = (folder / "table.csv").read_text().splitlines(keepends=True)
    (tmp_path / "table.csv").write_text("".join(lines[:-50]))
    saved = json.loads((other / "run.json").read_text())
    saved["config"]["dataset"] = str(tmp_path / "table.csv")
    (other / "run.json").write_text(json.dumps(saved))
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    saved = json.loads((folder / "seeds_good" / "runs.json").read_text())
    saved["config"]["dataset"] = str(tmp_path / "table.csv")
    (seeds / "runs.json").write_text(json.dumps(saved))
    one_seed = tmp_path / "one_seed"
    one_seed.mkdir()
    saved["configs"] = {"seed_0": saved["configs"]["seed_0"]}
    (one_seed / "runs.json").write_text(json.dumps(saved))
    for runs, expected in (
        ([folder / "good"], "alone has nothing to be compared with"),
        ([folder / "good", folder / "nothing"], "is not a folder"),
        ([folder / "good", folder / "seeds_good"], "good is a single run and others are of --seeds"),
        ([folder / "good", other], "have other test splits (40 and 35 examples)"),
        ([folder / "good", folder / "values"], "have other tasks"),
        ([folder / "good", folder / "bad", "--metric=acuracy"], "did you mean accuracy"),
        ([folder / "seeds_good", seeds], "are tested on other data (--dataset"),
        ([folder / "seeds_good", one_seed], "seeds that all runs have: 1 (seeds_good: 0, 1; one_seed: 0)"),
    ):
        code, out, error = said(capsys, *runs)
        assert code == 2 and out == "" and expected in error.splitlines()[-1], error


def test_the_usual_metrics_or_all_that_need_a_model():
    assert pairs.chosen(["auc", "accuracy", "f1/yes", "ece"], ()) == ["accuracy", "auc"]
    assert pairs.chosen(["loss", "majority_share", "trivial_mse"], ()) == ["loss"]
    assert pairs.chosen(["auc", "f1/yes"], ["f1/yes", "f1/yes"]) == ["f1/yes"]
