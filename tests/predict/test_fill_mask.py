"""`zoo predict` for pretrained encoders: words for the gaps of a text, against the model itself, and bad input."""

import functools
import io
import json
import sys

import keras
import numpy as np
import pytest

import zoo
from experiments import bert_pretrain
from tests.experiments import test_bert_experiments as experiments
from zoo.cli import main
from zoo.errors import BadInput
from zoo.predict.predictors.fill_mask import FillMask

folder = experiments.folder
TEXT = "fine [MASK] awful [MASK] dull"


@pytest.fixture(scope="module", params=[False, True], ids=["masked", "next_sentence"])
def workdir(folder, request):
    place = folder / f"pretrained{request.param}"
    zoo.run(bert_pretrain.build, experiments.documents(folder, steps=3, next_sentence=request.param), place)
    return place


@pytest.fixture
def say(capsys):
    """Runs a command in this process: exit code, lines on stdout, lines on stderr."""

    def run(*argv):
        code = main.main([str(argument) for argument in argv])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return run


@functools.cache
def saved(workdir):
    return keras.models.load_model(workdir / "model.keras", compile=False)


def by_hand(workdir, words, gap):
    """Probabilities of all rows of the vocabulary at one place of a row, without padding."""
    model = saved(workdir)
    tokens = np.array([words], np.int32)
    found = model([tokens, np.zeros_like(tokens), np.array([[gap]], np.int32)])
    logits = np.asarray(found[0] if isinstance(found, list) else found, np.float64)[0, 0]
    return np.exp(logits) / np.exp(logits).sum()


def test_gaps_are_filled_with_the_most_probable_words(workdir, say, monkeypatch, tmp_path):
    model = zoo.load(workdir)
    assert isinstance(model, FillMask)
    mask = model._tokenizer.id_of("[MASK]")
    one, other, last = model._tokenizer.encode(["fine", "awful", "dull"]).ids.tolist()
    row = [2, one, mask, other, mask, last, 3]
    [found] = model.fill([TEXT], top=4)
    for guesses, gap in zip(found, (2, 4)):
        expected = by_hand(workdir, row, gap)
        best = np.argsort(-expected[1 : model._tokenizer.vocabulary_size], kind="stable")[:4] + 1
        assert [guess.word for guess in guesses] == [model._tokenizer.decode([id]) for id in best]
        np.testing.assert_allclose([guess.probability for guess in guesses], expected[best], atol=1e-6)
    # Texts of other lengths beside it change nothing.
    beside = model.fill(["[MASK]", TEXT, "fine " * 40 + "[MASK]"], top=4)
    assert [len(gaps) for gaps in beside] == [1, 2, 1]
    for guesses, others in zip(beside[1], found):
        assert [guess.probability for guess in guesses] == pytest.approx(
            [guess.probability for guess in others], abs=1e-6
        )
    code, out, err = say("predict", workdir, f"--text={TEXT}", "--top=2")
    columns = [" ".join(f"{word} {chance:.4f}" for word, chance in guesses[:2]) for guesses in found]
    assert (code, err) == (0, []) and out == ["\t".join([TEXT, *columns])]
    (tmp_path / "a.txt").write_text(TEXT)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    for argv in (["--json", f"--text={TEXT}"], ["--json", tmp_path / "a.txt"], ["-"]):
        _, [line], _ = say("predict", workdir, *argv)
        gaps = json.loads(line)["gaps"]
        assert [[guess["word"] for guess in gap] for gap in gaps] == [[guesses[0].word] for guesses in found]
        assert gaps[0][0]["probability"] == pytest.approx(found[0][0].probability, abs=1e-6)


def test_a_gap_in_a_long_text_is_read_with_its_neighbours(workdir):
    model = zoo.load(workdir)
    words = ["fine", "awful", "dull", "poor", "great"] * 8
    ids = model._tokenizer.encode([" ".join(words)]).ids.tolist()
    mask = model._tokenizer.id_of("[MASK]")
    for gap, first in ((0, 0), (3, 0), (20, 13), (38, 26), (39, 26)):
        text = " ".join([*words[:gap], "[MASK]", *words[gap + 1 :]])
        row = [2, *(mask if place == gap else ids[place] for place in range(first, first + 14)), 3]
        [[[guess]]] = model.fill([text])
        assert guess.probability == pytest.approx(by_hand(workdir, row, gap - first + 1)[1:].max(), abs=1e-5)


def test_what_is_refused(workdir, say, monkeypatch):
    with pytest.raises(BadInput, match="expected a list of strings"):
        zoo.load(workdir).fill("[MASK]")
    code, out, err = say("predict", workdir, "--text=the film was good")
    assert (code, out, err) == (
        2, [], ["zoo: the text 'the film was good' has no [MASK]: expected one or more, as gaps to fill"]
    )  # fmt: skip
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"good\n[MASK]")))
    code, out, _ = say("predict", workdir, "-")
    assert code == 2 and ["error" in json.loads(line) for line in out] == [True, False]
    for flag in ("--explain", "--pair=x"):
        code, out, err = say("predict", workdir, "--text=[MASK]", flag)
        assert (code, out, len(err)) == (2, [], 1) and flag.split("=")[0] in err[0]
    code, out, err = say("evaluate", workdir)
    assert (code, out, len(err)) == (2, [], 1) and "whose test stands in result.json" in err[0]
