"""`zoo predict --prediction_sets` and `--abstain_risk`: what is promised of answers, on files."""

import json

import numpy as np
import pytest

from tests.helpers.digits import bright, run, unseen
from zoo.cli import main
from zoo.data.datasets import images


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("promises")
    # Few steps: a model that errs in one of eight or so.
    run(folder / "run", steps=60)
    x, y = unseen()
    np.save(folder / "clean.npy", x)
    np.save(folder / "shifted.npy", np.concatenate([x[:300], bright(x[300:])]))
    seen = images.load("mnist_5k").validation
    np.savez(folder / "labelled.npz", x=bright(seen["x"]), y=seen["y"])
    return folder, y


def predicted(capsys, folder, name, *flags):
    code = main.main(
        ["predict", str(folder / "run"), str(folder / name), *flags, *["--json"] * ("--out" not in str(flags))]
    )
    captured = capsys.readouterr()
    answers = [json.loads(line) for line in captured.out.splitlines()]
    return code, [{key: answer[key] for key in answer if key != "file"} for answer in answers], captured.err


def test_sets_hold_the_true_class(files, capsys):
    folder, y = files
    code, answers, err = predicted(capsys, folder, "clean.npy", "--prediction_sets=0.05")
    assert code == 0 and "hold the true class with a probability of at least 0.95, on data like the 500" in err
    sizes = [len(answer["prediction_set"]) for answer in answers]
    covered = [str(label) in answer["prediction_set"] for label, answer in zip(y, answers, strict=True)]
    assert all(answer["class"] in answer["prediction_set"] for answer in answers)
    # Two standard deviations of 500 validation and 500 test examples are 0.028.
    assert np.mean(covered) > 0.92 and 1 < np.mean(sizes) < 4
    assert main.main(["evaluate", str(folder / "run"), "--prediction_sets=0.05", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["set_coverage"] == pytest.approx(np.mean(covered), abs=0.03)
    assert result["set_size"] == pytest.approx(np.mean(sizes), abs=0.3)


def test_sets_are_a_column(files, capsys):
    folder, _ = files
    _, answers, _ = predicted(capsys, folder, "clean.npy", "--prediction_sets=0.02", "--abstain_risk=0.1")
    flags = ["--prediction_sets=0.02", "--abstain_risk=0.1", "--top=2"]
    assert main.main(["predict", str(folder / "run"), str(folder / "clean.npy"), *flags]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[-1] for line in lines] == [f"{{{', '.join(answer['prediction_set'])}}}" for answer in answers]
    assert [line[1] == "abstains" for line in lines] == [not answer["answered"] for answer in answers]
    assert len({len(line) for line in lines}) == 2


def test_each_class_and_a_plan(files, capsys):
    folder, y = files
    flags = ["--prediction_sets=0.1", "--class_conditional", "--refine=output"]
    code, answers, err = predicted(capsys, folder, "clean.npy", *flags)
    # Half of the validation split fits the temperature.
    assert code == 0 and "at least 0.9 for each class, on data like the 250 validation examples" in err
    covered = np.array([str(label) in answer["prediction_set"] for label, answer in zip(y, answers)])
    assert min(covered[y == label].mean() for label in range(10)) > 0.7
    code, answers, err = predicted(capsys, folder, "clean.npy", "--prediction_sets=0.02", "--class_conditional")
    assert code == 0 and "in every set, as they have too few validation examples (expected 49): " in err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--class_conditional"], "add --prediction_sets=0.1"),
        (["--prediction_sets=0.001"], "need 999 validation examples or more and there are 500"),
        (["--prediction_sets=0.1", "--out=x.csv"], "leave --prediction_sets out"),
    ],
)
def test_bad_flags_are_one_line(files, capsys, flags, says):
    code, answers, err = predicted(capsys, files[0], "clean.npy", *flags)
    lines = [line for line in err.splitlines() if line.startswith("zoo: ")]
    assert code == 2 and not answers and len(lines) == 1 and says in lines[0]


def test_a_shift_ends_the_promise(files, capsys):
    """300 images like validation's, then 200 brighter ones: in batches of 50 one batch at most is answered falsely."""
    folder, _ = files
    flags = ["--abstain_risk=0.1", "--prediction_sets=0.1", "--batch=50"]
    code, answers, err = predicted(capsys, folder, "shifted.npy", *flags)
    _, before, quiet = predicted(capsys, folder, "clean.npy", *flags)
    assert code == 0 and "shifted" not in quiet and not any("promise" in answer for answer in before)
    assert answers[:300] == before[:300]
    [line] = [line for line in err.splitlines() if "the stream has shifted: from about example " in line]
    assert "so the model abstains and sets hold all classes" in line
    ended = answers[350:]
    assert all(not each["answered"] and each["promise"] == "none" for each in ended)
    assert all(len(each["prediction_set"]) == 10 for each in ended)
    code, warned, err = predicted(capsys, folder, "shifted.npy", *flags, "--on_shift=warn")
    assert code == 0 and "the promise no longer holds (--on_shift=warn)" in err
    assert all(each["promise"] == "none" for each in warned[350:])
    assert [each["prediction_set"] for each in warned[:300]] == [each["prediction_set"] for each in answers[:300]]
    assert np.mean([len(each["prediction_set"]) for each in warned[350:]]) < 9
    assert main.main(["predict", str(folder / "run"), str(folder / "shifted.npy"), *flags]) == 0
    last = capsys.readouterr().out.splitlines()[-1].split("\t")
    assert last[1] == "abstains" and last[-1] == "promise: none"


def test_labelled_examples_keep_it(files, capsys):
    folder, y = files
    flags = ["--prediction_sets=0.2", f"--labelled={folder / 'labelled.npz'}", "--batch=50"]
    code, answers, err = predicted(capsys, folder, "shifted.npy", *flags)
    assert code == 0 and "the promise rests on the examples of --labelled" in err
    ended = [(label, each["prediction_set"]) for label, each in zip(y, answers) if "promise" in each]
    assert {each.get("promise") for each in answers} == {None, "labelled examples"} and len(ended) >= 150
    assert np.mean([str(label) in names for label, names in ended]) > 0.7
    assert np.mean([len(names) for _, names in ended]) < 9.5


def test_an_adapted_model_promises_nothing(files, capsys):
    folder, _ = files
    flags = ["--refine=statistics", "--abstain_risk=0.2", "--batch=100"]
    code, answers, err = predicted(capsys, folder, "shifted.npy", *flags)
    assert code == 0 and "nothing can be promised, so the model abstains" in err
    assert all(each["promise"] == "none" and not each["answered"] for each in answers[400:])
    assert "promise" not in answers[0]
