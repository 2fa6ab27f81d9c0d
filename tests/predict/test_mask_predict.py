"""Mask-Predict: against the paper's loop by hand, one round is today's answer, the guard, and bad input."""

import json

import numpy as np
import pytest

import zoo
from experiments import bert_finetune, bert_pretrain
from tests.experiments import test_bert_experiments as experiments
from tests.predict.test_fill_mask import by_hand
from zoo.cli import main
from zoo.predict.predictors.mask_predict import MaskPredict

folder = experiments.folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def grammar(tmp_path_factory):
    """Texts of doubled words, `a b c a b c`: a gap is known from its double, two gaps only from each other."""
    place = tmp_path_factory.mktemp("grammar")
    draw = np.random.default_rng(0)
    words = [f"w{number}" for number in range(12)]
    halves = [list(draw.choice(words, 4, replace=False)) for _ in range(1200)]
    (place / "train.txt").write_text("\n\n".join(" ".join(half + half) for half in halves[:1000]) + "\n")
    config = experiments.documents(
        place, train_file=str(place / "train.txt"), layers=2, width=64, heads=4, context=10, vocabulary=30, steps=500,
        batch_size=64, learning_rate=3e-3, mask_rate=0.3, dropout=0.0,
    )  # fmt: skip
    zoo.run(bert_pretrain.build, config, place / "run")
    return place / "run", [half + half for half in halves[1000:]]


def rounds_by_hand(workdir, text, rounds):
    """Section 3 of the paper for one text of the folder's model: the words' ids, and their probabilities."""
    tokenizer = zoo.load(workdir)._tokenizer
    mask, known = tokenizer.id_of("[MASK]"), tokenizer.vocabulary_size
    row = [2, *(mask if word == "[MASK]" else int(tokenizer.encode([word]).ids[0]) for word in text.split()), 3]
    gaps = [place for place, id in enumerate(row) if id == mask]
    again, sure = gaps, {}
    for number in range(rounds):
        if number:
            count = len(gaps) * (rounds - number) // rounds
            again = sorted(gaps, key=lambda gap: sure[gap])[:count]
        read = [mask if place in again else id for place, id in enumerate(row)]
        for gap in again:
            chances = by_hand(workdir, read, gap)[:known]
            chances[0] = 0
            row[gap], sure[gap] = int(chances.argmax()), float(chances.max())
    likelihood = 0.0
    for gap in gaps:
        read = [mask if place == gap else id for place, id in enumerate(row)]
        likelihood += np.log(by_hand(workdir, read, gap)[row[gap]])
    return [tokenizer.decode([row[gap]]) for gap in gaps], [sure[gap] for gap in gaps], likelihood


@pytest.mark.parametrize("rounds", [3, 7])
def test_rounds_are_those_of_the_paper(grammar, rounds):
    workdir, held = grammar
    texts = [" ".join("[MASK]" if place % 3 else word for place, word in enumerate(words)) for words in held[:3]]
    found = MaskPredict(zoo.load(workdir), rounds).fill(texts, top=2)
    for text, filled in zip(texts, found):
        one, all_of = rounds_by_hand(workdir, text, 1), rounds_by_hand(workdir, text, rounds)
        assert filled.before == pytest.approx(one[2], abs=1e-3)
        assert filled.after == pytest.approx(all_of[2], abs=1e-3)
        assert filled.kept == (filled.after >= filled.before)
        words, sure, _ = all_of if filled.kept else one
        assert [guesses[0].word for guesses in filled.gaps] == words
        np.testing.assert_allclose([guesses[0].probability for guesses in filled.gaps], sure, atol=1e-5)
        assert all(len(guesses) == 2 for guesses in filled.gaps)


def test_rounds_make_held_out_texts_more_probable(grammar):
    """Five of eight words are hidden, both of some doubles. More probable is not more often what stood there.

    Measured with five rounds: the mean pseudo-log-likelihood of the five words goes from -18.9 to -8.6, the share of
    them that are the hidden ones from 30 to 24 %: where both of a double are hidden nobody can know the word, and the
    rounds make the two agree.
    """
    workdir, held = grammar
    draw, texts = np.random.default_rng(1), []
    for words in held[:60]:
        hidden = draw.choice(8, 5, replace=False)
        texts.append(" ".join("[MASK]" if place in hidden else word for place, word in enumerate(words)))
    found = MaskPredict(zoo.load(workdir), 5).fill(texts)
    kept = [filled.after if filled.kept else filled.before for filled in found]
    assert all(now >= filled.before for now, filled in zip(kept, found))
    assert np.mean(kept) > np.mean([filled.before for filled in found]) + 2
    assert any(filled.kept and filled.after > filled.before for filled in found)


def test_one_round_is_the_plain_answer(grammar, capsys):
    workdir, _ = grammar
    model, text = zoo.load(workdir), "w1 [MASK] w2 [MASK] w1"
    [filled], [plain] = MaskPredict(model, 1).fill([text], top=3), model.fill([text], top=3)
    assert filled.gaps == plain and filled.kept and filled.before == filled.after
    said = []
    for flags in ([], ["--rounds=1"]):
        assert main.main(["predict", str(workdir), f"--text={text}", "--json", *flags]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and set(json.loads(said[0])) == {"text", "gaps"}
    assert main.main(["predict", str(workdir), f"--text={text}", "--json", "--rounds=4", "--top=2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rounds"] in (1, 4) and set(found["pseudo_log_likelihood"]) == {"one_round", "all_rounds"}
    assert [len(guesses) for guesses in found["gaps"]] == [2, 2]
    assert main.main(["predict", str(workdir), f"--text={text}", "--rounds=4"]) == 0
    line = capsys.readouterr().out
    assert "by one round" in line and line.count("\t") == 3


def test_what_lowers_the_likelihood_is_not_kept(grammar, monkeypatch):
    workdir, held = grammar
    text = " ".join("[MASK]" if place in (0, 1, 4, 6) else word for place, word in enumerate(held[0]))
    rounds = MaskPredict(zoo.load(workdir), 4)
    told = iter([[-1.0], [-1.5]])
    monkeypatch.setattr(rounds, "_likelihood", lambda drafts: next(told))
    [filled] = rounds.fill([text])
    assert (filled.kept, filled.before, filled.after) == (False, -1.0, -1.5)
    assert filled.gaps == zoo.load(workdir).fill([text])[0]


def test_bad_input(grammar, folder, capsys):
    workdir, _ = grammar
    assert main.main(["predict", str(workdir), "--text=no gap", "--rounds=2"]) == 2
    assert "has no [MASK]" in capsys.readouterr().err
    for bad in ("0", "-1", "1.5"):
        with pytest.raises(SystemExit):
            main.main(["predict", str(workdir), "--text=[MASK]", f"--rounds={bad}"])
        assert "is not a whole number of 1 or more" in capsys.readouterr().err
    with pytest.raises(ValueError, match="rounds is 0"):
        MaskPredict(zoo.load(workdir), 0)
    zoo.run(bert_finetune.build, experiments.classes(folder, steps=1), folder / "classes")
    assert main.main(["predict", str(folder / "classes"), "--text=a", "--rounds=2"]) == 2
    assert "--rounds is for the gaps of a pretrained encoder" in capsys.readouterr().err
