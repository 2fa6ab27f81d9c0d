"""The experiment on a user's own file: classes, a language model, and classes again from it; and what it refuses."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from experiments.lstm_sentiment import LstmConfig, build
from tests.helpers.small import furthest
from tests.training.test_resume import as_if_killed, final_state, points
from zoo.data.text import encoding
from zoo.data.text.tokenizer import Encoded
from zoo.errors import BadInput
from zoo.predict.language_models import language_model
from zoo.training.run import run

WORDS = {"good": ["fine", "great", "lovely"], "bad": ["awful", "poor", "dull"], "neutral": ["plain", "usual", "normal"]}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Three classes, told by their words; a config that learns them in seconds."""
    folder = tmp_path_factory.mktemp("small")
    draw = np.random.default_rng(0)
    lines = []
    for number in range(240):
        label = list(WORDS)[number % 3]
        words = draw.choice([*WORDS[label], "the", "film", "was", "seen", "today"], draw.integers(4, 12))
        lines.append({"review": f"{number} " + " ".join([*words, WORDS[label][number % 2]]), "mood": label})
    path = folder / "reviews.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = LstmConfig(
        train_file=str(path), text_column="review", label_column="mood", vocabulary=60, tokenizer="word", width=8,
        units=8, max_length=16, epochs=0, steps=40, learning_rate=0.03, batch_size=24, baseline=True, lstm="scan",
    )  # fmt: skip
    return folder, config


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def test_three_classes_from_a_file(small, tmp_path):
    _, config = small
    result = run(build, config, tmp_path / "run")
    assert result["test/accuracy"] > 0.8 and result["test/baseline_accuracy"] > 0.8
    assert set(result) >= {f"test/f1/{name}" for name in WORDS} | {"test/f1_macro_low", "test/auc_high"}
    about = json.loads((tmp_path / "run" / "model.json").read_text())
    assert about["classes"] == sorted(WORDS) and about["input"] == "text"
    assert (tmp_path / "run" / "tokenizer.json").exists()
    predictor = zoo.load(tmp_path / "run")
    assert predictor.classes[predictor.probabilities(["the film was lovely great"])[0].argmax()] == "good"


def test_language_model_then_classes(small, tmp_path):
    _, config = small
    reader = config.replace(objective="language_model", samples=20, steps=30, activation_penalty=0.1, baseline=False)
    learned = run(build, reader, tmp_path / "reader")
    assert learned["test/perplexity"] == pytest.approx(np.exp(learned["test/loss"]))
    assert learned["test/perplexity"] < 40, "of 60 words"
    fine = config.replace(
        init_from=str(tmp_path / "reader"), schedule="slanted_triangular", layer_decay=0.8, unfreeze_every=5,
        pooling="concat", baseline=False, steps=120, learning_rate=0.06,
    )  # fmt: skip
    result = run(build, fine, tmp_path / "fine")
    assert result["test/accuracy"] > 0.8
    same = [(tmp_path / name / "tokenizer.json").read_text() for name in ("reader", "fine")]
    assert same[0] == same[1], "the words keep their numbers"
    frozen = run(build, fine.replace(learning_rate=0.0, steps=1), tmp_path / "frozen")
    assert frozen["step"] == 1
    models = [keras.models.load_model(tmp_path / name / "model.keras", compile=False) for name in ("reader", "frozen")]
    one, other = ({weight.path: weight.numpy() for weight in model.weights} for model in models)
    shared = [path for path in one if path in other]
    assert len(shared) == 4 and all(np.array_equal(one[path], other[path]) for path in shared)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tokenizer": "wordpeace"}, "--tokenizer is 'wordpeace': did you mean wordpiece"),
        ({"tokenizer": "no/such.json"}, r"tokenizer .*no/such\.json cannot be read"),
        ({"train_file": "no/such.csv"}, r"such\.csv"),
        ({"label_column": "moood"}, "moood"),
        ({"train_file": "", "dataset": "imdb"}, "--dataset is 'imdb': did you mean imdb_reviews"),
        ({"lstm": "keras", "weight_dropout": 0.1}, "--lstm=keras has no --weight_dropout"),
        ({"objective": "language_model", "bidirectional": True, "layers": 2}, "second layer would see the words"),
        ({"metric": "f3"}, "--metric is 'f3'"),
        ({"objective": "language_model", "token_drop": 0.1}, "--token_drop=0.1 with --objective=language_model"),
        ({"r_drop": 1.0, "recipe": "plain"}, "--r_drop=1 without noise in the network"),
    ],
)
def test_what_is_refused(small, tmp_path, change, said):
    config = small[1].replace(baseline=False, steps=1, patience=1, **change)
    with pytest.raises(BadInput, match=said):
        run(build, config, tmp_path / "run")


@pytest.mark.thorough
def test_changed_texts_and_two_passes_are_the_same_run_and_resume(small, tmp_path):
    """Resumed on two replicas in micro-batches; with penalties, and beside n-grams."""
    config = small[1].replace(
        baseline=False, r_drop=2.0, token_drop=0.2, token_swap=0.3, activation_penalty=0.1, steps=4, epochs=0,
        batch_size=9, compile="none", patience=0, checkpoint_every=2, keep=9, export="last",
    )  # fmt: skip
    run(build, config, tmp_path / "whole")
    killed = as_if_killed(tmp_path / "whole", tmp_path, 2)
    run(build, config.replace(cpu_devices=2, accumulate=2), killed)
    half, whole = (final_state(tmp_path / "whole", step).state for step in (2, 4))
    assert furthest(whole, final_state(killed, 4).state) < 1e-5
    curves = points(tmp_path / "whole")
    assert all(value > 0 for name in ("r_drop", "activation") for _, value in curves["train", name])
    fixed = {name for name in whole if name.startswith("model/") and np.array_equal(whole[name], half[name])}
    assert fixed and all("ngrams" in name or "mixture" in name for name in fixed), "the linear half is not trained"


def test_both_directions_then_classes(small, tmp_path):
    """They learn to guess, a classifier in both directions starts from them, and nobody takes them for one model."""
    _, config = small
    reader = config.replace(
        objective="language_model", bidirectional=True, samples=0, steps=30, activation_penalty=0.1, baseline=False
    )
    learned = run(build, reader, tmp_path / "reader")
    assert learned["test/perplexity"] < 40, "of 60 words"
    start = config.replace(
        init_from=str(tmp_path / "reader"), bidirectional=True, pooling="max", learning_rate=0.0, steps=1,
        baseline=False,
    )  # fmt: skip
    run(build, start, tmp_path / "begun")
    models = [keras.models.load_model(tmp_path / name / "model.keras", compile=False) for name in ("reader", "begun")]
    one, other = ({weight.path: weight.numpy() for weight in model.weights} for model in models)
    shared = [path for path in one if path in other]
    assert len(shared) == 7 and all(np.array_equal(one[path], other[path]) for path in shared)
    with pytest.raises(BadInput, match="two language models, one in each direction"):
        language_model.load(tmp_path / "reader")


def test_another_vocabulary_is_refused(small, tmp_path):
    _, config = small
    run(build, config.replace(objective="language_model", steps=1, baseline=False), tmp_path / "reader")
    smaller = config.replace(init_from=str(tmp_path / "reader"), vocabulary=12)
    with pytest.raises(BadInput, match=r"--vocabulary is 12: the tokenizer of --init_from has"):
        run(build, smaller, tmp_path / "run")


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 15))
@settings(max_examples=80, deadline=None)
def test_windows_predict_each_token_once(lengths, width):
    """Every token but a text's first is wanted in exactly one row, after the one that stands before it."""
    starts = np.cumsum([0, *lengths])
    ids = np.arange(1, starts[-1] + 1, dtype=np.int32)
    found = encoding.windows(Encoded(ids, starts), width)
    pairs = []
    for row, length in zip(found["tokens"], found["length"], strict=True):
        assert 2 <= length <= width + 1 and (row[length:] == 0).all() and (row[:length] > 0).all()
        pairs += list(zip(row[: length - 1].tolist(), row[1:length].tolist(), strict=True))
    expected = [
        (int(ids[i - 1]), int(ids[i])) for k in range(len(lengths)) for i in range(starts[k] + 1, starts[k + 1])
    ]
    assert pairs == expected
