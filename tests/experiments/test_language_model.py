"""The language model's experiment: it learns a text, keeps the engine's promises, and refuses what cannot be."""

import json

import keras
import numpy as np
import pytest

import zoo
from experiments import language_model
from experiments.language_model import LanguageModelConfig
from tests.helpers.small import furthest
from tests.training.test_resume import as_if_killed, final_state
from zoo.data.datasets import running_text
from zoo.data.text import tokenizer
from zoo.engine import devices
from zoo.errors import BadInput
from zoo.metrics import ngram_baseline
from zoo.predict.language_models import language_model as language
from zoo.training.run import make_engine, total_steps

TEXT = "Second Citizen:\nOne word, good citizens.\n\nFirst Citizen:\nWe are accounted poor citizens.\n\n" * 30


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "mine.txt"
    path.write_text(TEXT, encoding="utf8")
    return LanguageModelConfig(
        train_file=str(path), context=12, layers=2, width=16, heads=2, steps=60, warmup_steps=5, learning_rate=0.01,
        log_every=20, recipe="plain",
    )  # fmt: skip


@pytest.mark.parametrize(("network", "steps"), [("transformer", 150), ("lstm", 400)])
def test_learns_a_text(config, network, steps, tmp_path):
    config = config.replace(network=network, steps=steps, width=32, layers=1)
    found = zoo.run(language_model.build, config, tmp_path)
    # It is asked for a character in 25; a repeated text leaves little to guess.
    assert found["test/perplexity"] < 3
    words = tokenizer.load(tmp_path / "tokenizer.json")
    model = keras.models.load_model(tmp_path / "model.keras")
    logits = model(words.encode(["First Citize"]).ids[None].astype(np.int32)).numpy()
    last = logits[0, -1] if network == "transformer" else logits[-1, 0]
    assert words.decode([int(last.argmax())]) == "n"
    assert json.loads((tmp_path / "model.json").read_text())["task"] == "language_model"


def test_bits_per_byte_are_those_of_the_loss(config, tmp_path):
    """Of characters of one byte each, nats over ln 2."""
    found = zoo.run(language_model.build, config.replace(steps=6), tmp_path)
    assert found["test/bits_per_byte"] == pytest.approx(found["test/loss"] / np.log(2), rel=1e-5)
    assert found["test/perplexity"] == pytest.approx(np.exp(found["test/loss"]), rel=1e-5)


def test_the_baseline_is_shown_beside_the_model(config, tmp_path, capsys):
    """A repeated text is easy for n-grams, and six steps of a network alone are not: the last line says so."""
    found = zoo.run(language_model.build, config.replace(steps=6, baseline=True, ngrams=False), tmp_path)
    text = running_text.load("", config.train_file)
    words = tokenizer.load(tmp_path / "tokenizer.json")
    ids = [words.encode([part]).ids for part in text]
    losses = ngram_baseline.losses(*ids, words.vocabulary_size).losses
    assert found["test/baseline_bits_per_byte"] == pytest.approx(losses.mean() / np.log(2), rel=1e-6)
    difference = found["test/bits_per_byte"] - found["test/baseline_bits_per_byte"]
    assert found["test/minus_baseline"] == pytest.approx(difference, abs=1e-5)
    assert 0 < found["test/minus_baseline_low"] <= difference <= found["test/minus_baseline_high"]
    assert not any(name.startswith("eval/baseline") for name in found)
    assert capsys.readouterr().err.splitlines()[-1].startswith("worse than a ")


def test_unknown_characters_cost_their_bytes(config, tmp_path):
    """Each of four characters of 3 bytes costs its token and 24 bits, in the model's and in the baseline's figure."""
    (tmp_path / "test.txt").write_text("First 好 Citizen 好好\n好" * 9, encoding="utf8")
    config = config.replace(steps=6, test_file=str(tmp_path / "test.txt"), baseline=True)
    found = zoo.run(language_model.build, config, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["config"]["byte_fallback"] is False
    [score] = language.load(tmp_path / "run").score(
        [(tmp_path / "test.txt").read_text(encoding="utf8")], config.context
    )
    assert score.unknown == 36 and found["test/bits_per_byte"] == pytest.approx(score.bits_per_byte, rel=1e-5)
    difference = found["test/bits_per_byte"] - found["test/baseline_bits_per_byte"]
    assert found["test/minus_baseline"] == pytest.approx(difference, abs=1e-5)


@pytest.mark.parametrize(
    ("asked", "tokens", "steps", "fits"),
    [(None, 1000, 6, True), (None, 10_000, 6, False), (True, 10**9, 1, True), (False, 10, 1000, False)],
)
def test_whether_a_baseline_is_fitted(config, asked, tokens, steps, fits):
    config = config.replace(baseline=asked, steps=steps, batch_size=12, context=12)
    assert config.filled(**language_model.recipe_values(config, tokens, 1)).baseline == fits


@pytest.mark.parametrize(
    ("changes", "tokens", "expected"),
    [
        ({}, 10**6, {"ngrams": True, "dropout": 0.0, "eval_every": 0, "export": "best"}),
        ({}, 300_000, {"ngrams": True, "dropout": 0.1, "eval_every": 500}),
        ({}, 10**5, {"ngrams": True, "dropout": 0.2}),
        ({}, 10**7, {"ngrams": False, "dropout": 0.0}),
        ({"network": "lstm"}, 10**5, {"ngrams": False, "baseline": True}),
        ({"ngrams": False, "dropout": 0.3}, 10**5, {"ngrams": False, "dropout": 0.3}),
        ({"recipe": "plain"}, 10**5, {"ngrams": False, "dropout": 0.0, "export": "auto", "baseline": True}),
    ],
)
def test_the_recipe_follows_the_text(changes, tokens, expected):
    config = LanguageModelConfig(**changes)
    config = config.filled(**language_model.recipe_values(config, tokens, tokens // 12))
    assert {name: getattr(config, name) for name in expected} == expected


def test_a_network_of_few_steps_beside_its_ngrams(config, tmp_path):
    """What is evaluated, saved, scored and generated is the mixture."""
    found = zoo.run(language_model.build, config.replace(steps=150, ngrams=True, baseline=True), tmp_path / "run")
    # More than the baseline, as the first tokens of a window of 12 have no long history.
    assert found["test/baseline_bits_per_byte"] < found["test/bits_per_byte"] < 0.4
    model, text = language.load(tmp_path / "run"), running_text.load("", config.train_file)
    [score] = model.score([text.test], config.context)
    assert score.bits_per_byte == pytest.approx(found["test/bits_per_byte"], abs=1e-4)
    prompt = "Second Citizen:"
    outputs = [model.generate(prompt, tokens=30, temperature=0.0, cache=cache)[0].text for cache in (True, False)]
    assert outputs[0] == outputs[1] and len(outputs[0]) == 30 and outputs[0] in TEXT
    plain = zoo.run(language_model.build, config.replace(steps=6, recipe="plain"), tmp_path / "plain")
    assert plain["test/bits_per_byte"] > found["test/bits_per_byte"]
    assert "ngrams" not in [layer.name for layer in language.load(tmp_path / "plain").model.layers]


def trained(config, replicas):
    strategy = devices.mirrored_cpus(replicas) if replicas > 1 else devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(config.seed)
        experiment = language_model.build(config)
    engine = make_engine(strategy, config, experiment, total_steps(config, experiment))
    engine.train(experiment.train, 0, 4)
    return engine, engine.evaluate(experiment.evals["eval"])


@pytest.mark.parametrize("network", ["transformer", "lstm", pytest.param("ngrams", marks=pytest.mark.thorough)])
def test_the_same_run(config, network):
    """On replicas and in micro-batches, with dropout."""
    if network == "ngrams":
        # So repetitive a text has n-grams of 10 characters, whose graph takes minutes.
        network, config = "transformer", config.replace(ngrams=True)
    config = config.replace(network=network, batch_size=7, dropout=0.2, compile="none")
    one, means = trained(config, 1)
    for replicas, accumulate in ((2, 1), (1, 3)):
        other, found = trained(config.replace(accumulate=accumulate), replicas)
        assert furthest(one.state(), other.state()) < 1e-5
        assert found == pytest.approx(means, abs=1e-5)


def test_resumes_bitwise(config, tmp_path):
    config = config.replace(steps=9, checkpoint_every=3, dropout=0.2)
    zoo.run(language_model.build, config, tmp_path / "whole")
    folder = as_if_killed(tmp_path / "whole", tmp_path, 3)
    zoo.run(language_model.build, config, folder)
    whole, cut = final_state(tmp_path / "whole", 9).state, final_state(folder, 9).state
    assert whole.keys() == cut.keys() and all(np.array_equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"heads": 3}, "--width is 16 and --heads is 3"),
        ({"tokenizer": "words"}, "tokenizer kind is 'words'"),
        ({"context": 3000}, "expected more than the context, 3000"),
        ({"dataset": "shakespeare", "train_file": ""}, "did you mean tiny_shakespeare"),
    ],
)
def test_what_is_refused(config, change, said):
    with pytest.raises(BadInput, match=said):
        language_model.build(config.replace(**change))
