"""Probabilities of texts: the chain rule, the engine's own loss, windows; and the command, with bad input."""

import io
import itertools
import json
import math
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf

import zoo
from experiments import language_model, lstm_sentiment
from experiments.language_model import LanguageModelConfig
from tests.helpers.language_models import NETWORKS, plain, speaker
from zoo.cli import main
from zoo.data.datasets import running_text
from zoo.errors import BadInput
from zoo.predict.language_models import language_model as language
from zoo.predict.language_models import perplexity

TEXT = "Second Citizen:\nOne word, good citizens.\n\nFirst Citizen:\nWe are accounted poor — 好.\n\n" * 30


def by_hand(model, ids):
    """Log P of each token but the first, in float64, from the plain model's logits."""
    logits = plain(model, np.array([ids[:-1]]))[0].astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logs[np.arange(len(ids) - 1), ids[1:]]


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_probabilities_of_all_texts_add_up_to_one(kind):
    """All texts of three ids after a first one, whatever the ids, by the chain rule."""
    model = speaker(kind)
    rows = model.model.output_shape[-1]
    texts = [np.array([6, *rest], np.int32) for rest in itertools.product(range(rows), repeat=3)]
    assert len(texts) == 9**3
    each = [found.sum() for found in model._scorer.log_probabilities(texts, 6)]
    assert np.exp(each).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_score_is_that_of_the_plain_model(kind):
    model = speaker(kind)
    texts = ["ab", "abcabcabcabca", "cba"]
    for text, found in zip(texts, model.score(texts)):
        expected = by_hand(model, model.ids(text))
        np.testing.assert_allclose(found.log_probabilities, expected, atol=1e-5)
        assert found.tokens == tuple(text) and found.bytes == len(text) - 1 and found.unknown == 0
        assert found.log_probability == pytest.approx(expected.sum(), abs=1e-4)
        assert found.perplexity == pytest.approx(np.exp(-expected.mean()), rel=1e-5)
        assert found.bits_per_byte == pytest.approx(-expected.sum() / np.log(2) / (len(text) - 1), rel=1e-5)
    assert model.score([]) == []


def test_an_unknown_character_costs_its_bytes_too():
    """A run with an unknown token: P([UNK]) times that of two bytes, 1 in 256 each; as the first token it is given."""
    model = speaker("pre-norm")
    [found] = model.score(["§b§c"])
    expected = by_hand(model, model.ids("§b§c")) - [0, 2 * math.log(256), 0]
    np.testing.assert_allclose(found.log_probabilities, expected, atol=1e-5)
    assert (found.tokens, found.bytes, found.unknown) == (("§", "b", "§", "c"), 4, 2)
    with pytest.raises(BadInput, match=r"the prompt has '§' at character 1 \(and 1 more\).*byte_fallback"):
        model.generate("b§ä")


def test_lines_without_anything_to_predict_are_counted(run, say, tmp_path):
    """A text file from the web: blank lines and single signs between the texts are no errors."""
    (tmp_path / "wiki.txt").write_text("good one\n \n\n\u3000\nO\nFirst Citizen\n", encoding="utf8")
    code, out, err = say("score", run[0], tmp_path / "wiki.txt")
    assert (code, len(out)) == (0, 3)
    # Of bytes, U+3000 alone is three tokens, but blank all the same.
    assert err == [f"zoo: {tmp_path / 'wiki.txt'}: 3 lines skipped, blank or of one token: nothing to predict"]


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_comes_later_changes_nothing(kind):
    model = speaker(kind)
    short, long = model.score(["abcab", "abcabccba"])
    np.testing.assert_allclose(long.log_probabilities[:4], short.log_probabilities, atol=1e-6)


@pytest.mark.parametrize("stride", [1, 5, 6, 12])
def test_windows_predict_each_token_once_with_as_much_before_it_as_there_is_room_for(stride):
    for tokens in (2, 12, 13, 14, 40, 61):
        cut = perplexity.windows(tokens, 12, stride)
        assert [place for one in cut for place in range(one.first, one.end + 1)] == list(range(1, tokens))
        for one in cut:
            assert one.end - one.begin <= 12
            assert all(place - one.begin >= min(12 - stride + 1, place) for place in range(one.first, one.end + 1))


@pytest.mark.parametrize("stride", [1, 5, None])
def test_a_text_longer_than_the_context(stride):
    model = speaker("pre-norm")
    text = "abcbacbbacabcabcaacbcbbacab" * 2
    ids, [found] = model.ids(text), model.score([text], stride)
    assert model.stride(None) == 6
    for one in perplexity.windows(len(ids), 12, stride or 6):
        expected = by_hand(model, ids[one.begin : one.end + 1])
        counted = found.log_probabilities[one.first - 1 : one.end]
        np.testing.assert_allclose(counted, expected[len(expected) - len(counted) :], atol=1e-5)
    if stride == 1:
        # Each with all of the 12 tokens before it.
        for place in range(12, len(ids)):
            expected = by_hand(model, ids[place - 12 : place + 1])[-1]
            assert found.log_probabilities[place - 1] == pytest.approx(expected, abs=1e-5)


def test_an_lstm_reads_a_text_of_any_length_whole():
    model = speaker("lstm")
    text = "abcbacbbacabcabcaacbcbbacab" * 21
    [found] = model.score([text])
    np.testing.assert_allclose(found.log_probabilities, by_hand(model, model.ids(text)), atol=1e-4)
    with pytest.raises(BadInput, match="--stride is 5: an LSTM reads a text whole"):
        model.score([text], 5)


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_is_generated_has_the_probability_that_was_told(kind):
    model = speaker(kind, "aé好" * 9, "byte")
    [found] = model.generate("aé", tokens=8, top_p=0.9)
    ids = np.array([*model.ids("aé"), *found.ids], np.int32)
    [each] = model._scorer.log_probabilities([ids], 6)
    assert each[-8:].sum() == pytest.approx(found.log_probability, abs=1e-4)


@pytest.fixture(scope="module", params=["character", "byte_bpe"])
def run(request, tmp_path_factory):
    """A trained run of each kind of tokenizer: its folder, config and result."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "mine.txt").write_text(TEXT, encoding="utf8")
    config = LanguageModelConfig(
        train_file=str(folder / "mine.txt"), tokenizer=request.param, byte_fallback=True, vocabulary=290, context=12,
        layers=1, width=16, heads=2, steps=30, warmup_steps=5, learning_rate=0.01, compile="none", recipe="plain",
    )  # fmt: skip
    return folder / "run", config, zoo.run(language_model.build, config, folder / "run")


def test_scores_are_the_losses_of_the_run(run):
    """With the context as stride, the windows are those of the evaluation in training."""
    folder, config, result = run
    model, text = language.load(folder), running_text.load("", config.train_file).test
    [found] = model.score([text], stride=12)
    mean = found.log_probability / len(found.log_probabilities)
    assert -mean == pytest.approx(result["test/loss"], abs=1e-5)
    assert found.perplexity == pytest.approx(result["test/perplexity"], rel=1e-5)
    assert found.bits_per_byte == pytest.approx(result["test/bits_per_byte"], rel=1e-5)


@pytest.mark.parametrize("kind", NETWORKS)
def test_scores_are_the_losses_of_the_experiment(kind):
    model = speaker(kind)
    ids = model.ids("abccbaabcbaac")
    batch, counts = {"tokens": ids[None]}, model.tokenizer.byte_counts()
    counts = np.append(counts, 1)
    terms = language_model.forward(model.model, batch, False, counts, time_first=kind == "lstm")
    [found] = model.score(["abccbaabcbaac"])
    assert -found.log_probability == pytest.approx(float(tf.reduce_sum(terms["loss"].values)), abs=1e-4)


@pytest.fixture
def say(capsys):
    """Runs a command in this process: exit code, lines on stdout, lines on stderr."""

    def run(*argv):
        code = main.main([str(argument) for argument in argv])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return run


def test_command(run, say, tmp_path):
    folder, _, _ = run
    model, texts = language.load(folder), ["First Citizen", "good — 好 citizens.", "We are"]
    scores = model.score(texts, 3)
    code, out, err = say("score", folder, "--json", "--stride=3", *(f"--text={text}" for text in texts))
    assert (code, err, len(out)) == (0, [], 3)
    for line, text, score in zip(out, texts, scores):
        answer = json.loads(line)
        assert (answer["text"], answer["context"], answer["stride"]) == (text, 12, 3)
        assert [answer["given"], *(one["token"] for one in answer["tokens"])] == list(score.tokens)
        assert [one["log_probability"] for one in answer["tokens"]] == score.log_probabilities.tolist()
        assert answer["log_probability"] == pytest.approx(sum(score.log_probabilities))
        assert (answer["perplexity"], answer["bits_per_byte"]) == (score.perplexity, score.bits_per_byte)
        assert (answer["predicted"], answer["unknown"]) == (len(score.log_probabilities), 0)
    code, out, err = say("score", folder, "--stride=3", f"--text={texts[0]}")
    assert out[0] == f"{scores[0].tokens[0]!r}\tgiven" and len(out) == len(scores[0].tokens) + 1
    assert out[-1] == (
        f"{texts[0]}\tlog P {scores[0].log_probability:.4f}\tperplexity {scores[0].perplexity:.4f}\t"
        f"bits per byte {scores[0].bits_per_byte:.4f}"
    )
    (tmp_path / "a.txt").write_text("\n\n".join(texts) + "\n", encoding="utf8")
    code, out, err = say("score", folder, tmp_path / "a.txt", "--stride=3")
    assert (code, err) == (0, []) and len(out) == 4
    assert [line.split("\t")[0] for line in out[:3]] == [f"{tmp_path / 'a.txt'}[{i}]" for i in (0, 2, 4)]
    assert f"3 texts\tlog P {sum(one.log_probability for one in scores):.4f}" in out[3]
    code, out, err = say("score", folder, tmp_path / "a.txt", "--whole", "--json")
    [whole] = model.score(["\n\n".join(texts) + "\n"])
    assert (code, len(out)) == (0, 1)
    assert json.loads(out[0])["log_probability"] == pytest.approx(whole.log_probability)


def test_bad_texts_are_told_and_the_others_are_answered(run, say, tmp_path, monkeypatch):
    folder, _, _ = run
    (tmp_path / "a.jsonl").write_text('{"text": "good one"}\n{"text": ""}\n{"text": "go§od"}\n')
    code, out, err = say("score", folder, tmp_path / "a.jsonl", "--json", tmp_path / "none.txt", tmp_path / "x.npy")
    assert (code, len(out), len(err)) == (2, 2, 3)
    assert "a.jsonl[1]: the text '' has 0 tokens: expected 2 tokens or more" in err[0]
    assert json.loads(out[1])["index"] == 2, "a character that no training text has is no reason to refuse a text"
    stream = b'good one\n\xff\n{"text": "O", "id": 7}\n{"text": "good citizens.", "id": 8}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stream)))
    code, out, err = say("score", folder, "-")
    answers = [json.loads(line) for line in out]
    assert (code, err, [one["line"] for one in answers]) == (2, [], [1, 2, 3, 4])
    assert "UTF-8" in answers[1]["error"] and "2 tokens or more" in answers[2]["error"] and answers[2]["id"] == 7
    assert answers[3]["id"] == 8 and answers[3]["log_probability"] < 0 and math.isfinite(answers[0]["perplexity"])


def changed(source, folder, **values):
    """A copy of a run with other values in its model.json."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("checkpoints", "events*"))
    about = json.loads((folder / "model.json").read_text()) | values
    (folder / "model.json").write_text(json.dumps(about))
    return folder


def test_folders_that_hold_no_language_model(run, say, tmp_path):
    folder = run[0]
    broken = changed(folder, tmp_path / "broken")
    (broken / "model.json").write_text('{"task": "language')
    none = changed(folder, tmp_path / "none")
    (none / "model.keras").unlink()
    cases = {
        changed(folder, tmp_path / "classes", task="classification"): "holds a model for classification, expected a",
        changed(folder, tmp_path / "task", task=5): "model.json does not say its task",
        changed(folder, tmp_path / "context", context=99): "has a context of 99, the model one of 12",
        broken: "model.json cannot be read",
        none: "has no model.keras",
        tmp_path / "nowhere": "is not a folder",
    }
    for place, said in cases.items():
        for verb in (["score", place, "--text=We"], ["generate", place, "--prompt=We"]):
            code, out, err = say(*verb)
            assert (code, out, len(err)) == (2, [], 1) and said in err[0] and str(place) in err[0]
    for verb in (["predict", folder, "--text=We"], ["evaluate", folder]):
        code, out, err = say(*verb)
        assert (code, out, len(err)) == (2, [], 1)
        assert "holds a language model: use zoo score for texts, or zoo generate for a prompt" in err[0]
    for flag in ("--stride=13", "--whole"):
        code, out, err = say("score", folder, flag, "mine.csv")
        assert (code, out, len(err)) == (2, [], 1) and flag.split("=")[0] in err[0]
    code, out, err = say("score", folder)
    assert (code, out, err) == (2, [], ["zoo: nothing to score: expected FILE, --text, or - for stdin"])


def test_a_language_model_of_reviews(tmp_path, say, capsys):
    """It scores; it cannot write, as its tokenizer lower-cases."""
    lines = [f"{word} film of the day {i % 7},{'yn'[i % 2]}" for i, word in enumerate(["good", "bad", "dull"] * 60)]
    (tmp_path / "mine.csv").write_text("\n".join(["review,label", *lines]))
    config = lstm_sentiment.LstmConfig(
        train_file=str(tmp_path / "mine.csv"), text_column="review", objective="language_model", tokenizer="word",
        vocabulary=40, width=8, units=8, steps=10, epochs=0.0, max_length=16, compile="none", samples=0,
    )  # fmt: skip
    zoo.run(lstm_sentiment.build, config, tmp_path / "run")
    capsys.readouterr()
    (tmp_path / "new.csv").write_text("review\nGood film\nof zebras of the day\n")
    code, out, err = say("score", tmp_path / "run", tmp_path / "new.csv", "--json")
    answers = [json.loads(line) for line in out]
    model = language.load(tmp_path / "run")
    assert (code, err, len(answers)) == (0, [], 2)
    assert (answers[0]["given"], answers[0]["tokens"][0]["token"]) == ("good", "film")
    assert "bits_per_byte" not in answers[0] and "stride" not in answers[0]
    assert (answers[0]["unknown"], answers[1]["unknown"]) == (0, 1)
    expected = by_hand(model, model.ids("of zebras of the day"))
    assert answers[1]["log_probability"] == pytest.approx(expected.sum(), abs=1e-4)
    code, out, err = say("generate", tmp_path / "run", "--prompt=good")
    assert (code, out, len(err)) == (2, [], 1) and "the model's tokenizer changes texts" in err[0]
