"""An encoder goes on learning by masked words: what it learns, what it keeps, what is refused, and bad input."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import special

import zoo
from experiments import bert_finetune
from tests.experiments import test_bert_experiments as experiments
from zoo import randomness
from zoo.adaptation import task_adaptive_pretraining
from zoo.adaptation.task_adaptive_pretraining import adapt
from zoo.data.text import special_tokens
from zoo.data.text import tokenizer as tokenizers
from zoo.errors import BadInput
from zoo.metrics.logits import two_class_logits
from zoo.models import encoder_heads, transformer
from zoo.models.hugging_face.config import Shape
from zoo.predict.evaluation import held_out
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.cloning import digest
from zoo.predict.predictors.text_classifier import TextClassifier

folder = experiments.folder
FAST = {"learning_rate": 1e-3, "batch_size": 16, "warm_steps": 20}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def trained(folder):
    """A classifier of moods, its validation split, its own texts, and new ones in which the words stand otherwise."""
    place = folder / "moods"
    zoo.run(bert_finetune.build, experiments.classes(folder, steps=120, ngrams=False), place)
    predictor = zoo.load(place)
    draw = np.random.default_rng(5)
    texts = []
    for number in range(160):
        mood = experiments.MOODS[list(experiments.MOODS)[number % 3]]
        texts.append(" ".join(["today", *[mood[number % 2]] * 3, *draw.choice(["film", "seen"], 2)]))
    return predictor, held_out.load(place, predictor), task_adaptive_pretraining.replay(place, predictor), texts


@pytest.fixture(scope="module")
def adapted(trained):
    predictor, known, own, texts = trained
    return adapt(predictor, texts, known, own, epochs=3, rounds=3, tolerance=0.05, **FAST)


def test_it_learns_the_new_words_and_keeps_what_it_knew(trained, adapted):
    predictor, known, own, _ = trained
    assert len(own) > 200 and set(own).isdisjoint(known.examples)
    assert adapted.accepted and [line.step for line in adapted.trace] == [10, 20, 30]
    assert adapted.trace[-1].masked_loss < adapted.trace[0].masked_loss - 0.2
    right = (known.logits.argmax(axis=1) == known.labels).mean()
    for line in adapted.trace:
        assert line.accepted and line.accuracy >= right - 0.05 and line.reason and line.seconds > 0
        assert 0 <= line.replay_loss < 0.2
    after = adapted.predictor.logits(known.examples)
    assert (after.argmax(axis=1) == known.labels).mean() == pytest.approx(adapted.trace[-1].accuracy)
    assert np.abs(after - known.logits).max() > 1e-3, "it did change"
    assert (adapted.predictor.classes, adapted.predictor.frame) == (predictor.classes, predictor.frame)


def test_the_source_is_never_touched_and_the_seed_decides(trained, adapted):
    predictor, known, own, texts = trained
    before, plain = digest(predictor.model), predictor.logits(texts[:5])
    again = adapt(predictor, texts, known, own, epochs=3, rounds=3, tolerance=0.05, **FAST)
    assert digest(predictor.model) == before
    np.testing.assert_array_equal(predictor.logits(texts[:5]), plain)
    assert digest(again.predictor.model) == digest(adapted.predictor.model) != before
    # The classifier's own head is kept as it was.
    for mine, theirs in zip(again.predictor.model.get_layer("head").weights, predictor.model.get_layer("head").weights):
        np.testing.assert_array_equal(mine, theirs)


def test_what_harms_is_taken_back(trained):
    predictor, known, own, texts = trained
    ruined = adapt(predictor, texts, known, own, **FAST | {"learning_rate": 0.5}, replay_weight=0.0)
    assert len(ruined.trace) == 1 and not ruined.accepted
    assert "falls" in ruined.trace[0].reason or "not finite" in ruined.trace[0].reason
    assert digest(ruined.predictor.model) == digest(predictor.model), "bit for bit"
    # One class for all is refused, whatever the validation split says.
    check_round = task_adaptive_pretraining._RoundCheck(predictor, ruined.predictor, texts, known, 1.0, 0)
    head = ruined.predictor.model.get_layer("head")
    head.bias.assign(np.array([1e6, 0, 0], np.float32))
    _, classes, accepted, reason = check_round()
    assert (classes, accepted) == (1.0, False) and "classes" in reason


def test_the_losses_are_those_of_numpy(trained):
    """At no rate at all nothing changes: the replayed answers diverge by nothing, and hidden words by the model."""
    predictor, known, own, texts = trained
    found = adapt(predictor, texts[:32], known, own, rounds=1, **FAST | {"learning_rate": 1e-12, "warm_steps": 0})
    assert found.trace[0].replay_loss == pytest.approx(0, abs=1e-5)
    assert np.isfinite(found.trace[0].masked_loss)
    columns = task_adaptive_pretraining._columns(predictor, texts[:8], own[:3], 0)
    np.testing.assert_allclose(columns["taught"].sum(axis=1), 1, atol=1e-6)
    logits = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)

    def classifier(inputs, training):
        return logits

    batch = {name: column for name, column in columns.items() if name != "length"}
    batch["segments"] = np.zeros_like(batch["tokens"])
    with randomness.scope(0, tf.constant(0), tf.constant(0)):
        terms = task_adaptive_pretraining._forward(
            lambda inputs, training: np.zeros((*inputs[2].shape, 80), np.float32), batch, True,
            rules=task_adaptive_pretraining.masking.MaskingRules(4, (2, 3), 80), classifier=classifier,
            replay_weight=2.0,
        )  # fmt: skip
    # Logits that are all the same.
    np.testing.assert_allclose(terms["masked"].values, np.log(80), rtol=1e-6)
    expected = special.rel_entr(columns["taught"], special.softmax(logits, axis=1)).sum(axis=1)
    np.testing.assert_allclose(terms["replay"].values, expected, rtol=1e-4)
    np.testing.assert_allclose(terms["pull"].values, 2 * expected, rtol=1e-4)


def test_replay_holds_the_answers(trained):
    """Rates that would move them are held by the source's own answers."""
    predictor, known, own, texts = trained
    given = FAST | {"learning_rate": 3e-3, "tolerance": 0.99, "rounds": 1, "epochs": 3, "warm_steps": 0}
    free, held = (adapt(predictor, texts[:96], known, own, replay_weight=weight, **given) for weight in (0.0, 5.0))
    assert held.trace[0].replay_loss < free.trace[0].replay_loss / 2


def test_pairs_and_two_classes():
    """One logit for two classes, two segments, and a network that normalises first."""
    texts = [(f"red house {number % 7}", f"is it blue {number % 5}") for number in range(40)]
    tokenizer = tokenizers.train([part for pair in texts for part in pair], "word", 60)
    model = encoder_heads.classifier(transformer.encoder(Shape(60, 16, 1, 2, 32, 24), norm_first=True), 2)
    predictor = TextClassifier(
        model, ("no", "yes"), tokenizer, 24, "head", "text", special_tokens.from_tokenizer(tokenizer), "pair"
    )
    known = HeldOut(texts, np.arange(40) % 2, two_class_logits(predictor.logits(texts)))
    found = adapt(predictor, texts, known, texts, warm_steps=2, rounds=1, tolerance=0.9, batch_size=8)
    assert found.trace[0].step == 5 and np.isfinite(found.trace[0].masked_loss)
    assert found.predictor.logits(texts).shape == (40, 1)


def test_bad_input(trained):
    predictor, known, own, texts = trained
    for given, said in (
        (([], known, own), "texts has no text"),
        ((texts, known, []), "replayed has no text"),
        (("texts", known, own), "expected a list of strings"),
    ):
        with pytest.raises(BadInput, match=said):
            adapt(predictor, *given, **FAST)
    for name, value in (("epochs", 0), ("rounds", 0), ("learning_rate", -1.0), ("tolerance", 1.0)):
        with pytest.raises(BadInput, match=f"{name} is {value:g}: expected"):
            adapt(predictor, texts, known, own, **FAST | {name: value})
    reader = TextClassifier(predictor.model, predictor.classes, predictor.tokenizer, 16)
    with pytest.raises(BadInput, match=r"expected that of a run of experiments/bert_finetune\.py"):
        adapt(reader, texts, known, own)
    with pytest.raises(BadInput, match="is not a folder"):
        task_adaptive_pretraining.replay("nowhere", predictor)
