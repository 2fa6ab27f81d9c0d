"""`zoo predict --refine` and `--abstain_risk`, in one process, on files."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.helpers.digits import bright, run, unseen
from zoo.cli import main


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refine")
    run(folder / "run")
    x, y = unseen()
    np.save(folder / "clean.npy", x)
    np.save(folder / "bright.npy", bright(x))
    return folder, y


def predicted(capsys, *arguments):
    code = main.main(["predict", *map(str, arguments), "--json"])
    captured = capsys.readouterr()
    return code, [json.loads(line) for line in captured.out.splitlines()], captured.err


def wrong(answers, y):
    return float(np.mean([int(answer["class"]) != label for answer, label in zip(answers, y, strict=True)]))


def test_refined_answers_are_better_and_their_trace_says_why(files, capsys, tmp_path):
    folder, y = files
    code, plain, _ = predicted(capsys, folder / "run", folder / "bright.npy")
    flags = [
        "--refine=auto",
        "--batch=100",
        f"--trace={tmp_path / 'trace.jsonl'}",
        f"--state={tmp_path / 'state.json'}",
    ]
    code, refined, err = predicted(capsys, folder / "run", folder / "bright.npy", *flags)
    assert code == 0 and wrong(plain, y) > 0.5 and wrong(refined, y) < 0.15
    trace = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    stages = {"statistics", "coral", "pose", "temperature", "prior", "coherence"}
    assert {line["stage"] for line in trace} == stages
    assert {line["batch"] for line in trace} == set(range(5))
    assert all(
        line["accepted"] and line["after"]["distance"] < line["before"]["distance"]
        for line in trace
        if line["stage"] == "statistics"
    )
    assert "zoo: statistics: kept 5 of 5" in err
    # What was learned is there at once.
    code, again, err = predicted(capsys, folder / "run", folder / "bright.npy", *flags, "--budget_steps=0")
    assert code == 0 and wrong(again, y) < 0.15 and "kept" not in err


def test_a_trace_is_drawn(files, capsys, tmp_path):
    folder, _ = files
    place = tmp_path / "trace.png"
    code, _, err = predicted(capsys, folder / "run", folder / "bright.npy", "--refine=auto", f"--trace={place}")
    with Image.open(place) as picture:
        assert code == 0 and picture.format == "PNG" and picture.size == (1000, 1120)
        # What was kept is green.
        assert np.any(np.all(np.asarray(picture.convert("RGB")) == (44, 160, 44), axis=-1))
    flags = ["--refine=auto", "--budget_steps=0", f"--trace={place}"]
    code, _, err = predicted(capsys, folder / "run", folder / "bright.npy", *flags)
    assert code == 2 and "nothing was tried" in err


def test_offline_all_examples_come_in_one_batch(files, capsys, tmp_path):
    """Sorted by class, each example is also answered by those that follow it."""
    folder, y = files
    order = np.argsort(y, kind="stable")
    np.save(tmp_path / "sorted.npy", np.load(folder / "clean.npy")[order])
    flags = [folder / "run", tmp_path / "sorted.npy", "--refine=coherence"]
    _, plain, _ = predicted(capsys, *flags, "--budget_steps=0")
    code, offline, err = predicted(capsys, *flags, "--offline")
    assert code == 0 and "coherence: kept 1 of 1" in err
    assert wrong(offline, y[order]) < 0.5 * wrong(plain, y[order])
    one = predicted(capsys, *flags, f"--batch_size={len(y)}")[1]
    assert one == offline
    for others in (["--refine=coherence", "--batch_size=5"], []):
        code, _, err = predicted(capsys, folder / "run", folder / "clean.npy", "--offline", *others)
        assert code == 2 and "add --refine, and leave out --batch_size" in err
    code, _, err = predicted(capsys, folder / "run", "-", "--offline", "--refine=coherence")
    assert code == 2 and "whole files" in err


def test_no_budget_is_the_plain_answer(files, capsys):
    folder, _ = files
    _, plain, _ = predicted(capsys, folder / "run", folder / "bright.npy")
    flags = ["--refine=statistics", "--budget_seconds=0"]
    _, refined, _ = predicted(capsys, folder / "run", folder / "bright.npy", *flags)
    assert [line["class"] for line in plain] == [line["class"] for line in refined]
    difference = [a["probability"] - b["probability"] for a, b in zip(plain, refined)]
    assert np.abs(difference).max() < 1e-6


def test_answers_are_withheld_where_the_risk_is_too_large(files, capsys, tmp_path):
    folder, y = files
    flags = ["--abstain_risk=0.03", f"--curve={tmp_path / 'curve.png'}"]
    code, answers, err = predicted(capsys, folder / "run", folder / "clean.npy", *flags)
    assert code == 0 and "at most 0.03 of the answers wrong" in err
    answered = np.array([answer["answered"] for answer in answers])
    mistakes = np.array([int(answer["class"]) != label for answer, label in zip(answers, y)])
    assert 0.3 < answered.mean() < 1 and mistakes[answered].mean() < mistakes.mean()
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert main.main(["predict", str(folder / "run"), str(folder / "clean.npy"), "--abstain_risk=0.03"]) == 0
    assert sum("\tabstains\t" in line for line in capsys.readouterr().out.splitlines()) == (~answered).sum()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--refine=magic"], "--refine=magic: expected auto"),
        (["--trace=x"], "--trace is an option of test-time adaptation: add --refine"),
        (["--refine=auto", "--trace=x.jpg"], "--trace=x.jpg: expected FILE.jsonl, or FILE.png"),
        (["--refine=auto", "--trace=no/x.png"], "--trace=no/x.png: the folder no is missing; make it first"),
        (["--refine=auto", "--state=no/x.npz"], "--state=no/x.npz: the folder no is missing"),
        (["--curve=x.png"], "--curve needs --abstain_risk"),
        (["--refine=auto", "--explain"], "leave out --refine"),
        (["--refine=auto", "--state=setup.py"], "is not a state file of --refine"),
    ],
)
def test_bad_flags_are_one_line(files, capsys, flags, says):
    folder, _ = files
    code, answers, err = predicted(capsys, folder / "run", folder / "clean.npy", *flags)
    lines = [line for line in err.splitlines() if line.startswith("zoo: ")]
    assert code == 2 and not answers and len(lines) == 1 and says in lines[0]


@pytest.mark.parametrize("flag", ["--budget_steps=-1", "--budget_seconds=x", "--abstain_risk=1", "--batch=0"])
def test_numbers_out_of_range_are_refused(files, flag):
    with pytest.raises(SystemExit) as left:
        main.main(["predict", str(files[0] / "run"), "x.npy", flag])
    assert left.value.code == 2
