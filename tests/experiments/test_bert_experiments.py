"""The experiments with an encoder: they learn, start from each other, keep the engine's promises, and refuse."""

import itertools
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from experiments import bert_finetune, bert_pretrain, bert_tag
from experiments.bert_finetune import FinetuneConfig
from experiments.bert_pretrain import PretrainConfig
from experiments.bert_tag import TagConfig
from tests.helpers.bert_folders import TINY
from tests.helpers.small import furthest
from tests.training.test_resume import as_if_killed, final_state
from zoo import randomness
from zoo.data.datasets import tagging, text_classification, text_splits
from zoo.engine import devices
from zoo.errors import BadInput
from zoo.models import xla_islands
from zoo.models.hugging_face import folder as pretrained
from zoo.training import pretrained_encoder
from zoo.training.run import make_engine, total_steps

SIZE = {"layers": 2, "width": 16, "heads": 2, "context": 16, "vocabulary": 80, "tokenizer": "word", "compile": "none"}
MOODS = {"good": ["fine", "great", "lovely"], "bad": ["awful", "poor", "dull"], "neutral": ["plain", "usual", "normal"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of each kind, of few words, whose labels can be told."""
    found = tmp_path_factory.mktemp("files")
    draw = np.random.default_rng(0)
    opinions, pairs = ["review,mood"], ["question,answer,same"]
    values = []
    for number in range(300):
        mood = list(MOODS)[number % 3]
        words = [*draw.choice(["the", "film", "was", "seen", "today"], draw.integers(2, 7)), MOODS[mood][number % 2]]
        draw.shuffle(words)
        opinions.append(f"{number % 40} {' '.join(words)},{mood}")
        one, other = draw.choice(["red", "blue"], 2)
        pairs.append(f"the {one} house {number},{other} is it,{'yes' if one == other else 'no'}")
        count = int(draw.integers(0, 6))
        words = ["good"] * count + ["film"] * int(draw.integers(1, 5))
        draw.shuffle(words)
        values.append(json.dumps({"text": f"n{number % 50} {' '.join(words)}", "label": 3.5 * count - 4}))
    (found / "reviews.csv").write_text("\n".join(opinions) + "\n")
    (found / "pairs.csv").write_text("\n".join(pairs) + "\n")
    (found / "values.jsonl").write_text("\n".join(values) + "\n")
    sentences = []
    for number in range(120):
        name = draw.choice(["ann", "bob", "eve"])
        sentences.append([("mister", "O"), (name, "B-PER"), ("smith", "I-PER"), (f"met{number % 30}", "O"),
                          (str(draw.choice(["ann", "rome", "oslo"])), "O")])  # fmt: skip
        # A name alone is a place: only its neighbour tells.
        sentences[-1][-1] = (sentences[-1][-1][0], "B-LOC")
    lines = "\n\n".join("\n".join(f"{word} {tag}" for word, tag in sentence) for sentence in sentences)
    (found / "tags.conll").write_text(lines + "\n")
    documents = [" ".join(draw.choice(sum(MOODS.values(), []), 12)) + f" d{n}" for n in range(200)]  # noqa: RUF017
    (found / "documents.txt").write_text("\n\n".join(documents) + "\n")
    return found


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def classes(folder, **changes):
    given = {"train_file": str(folder / "reviews.csv"), "text_column": "review", "label_column": "mood"}
    size = {"learning_rate": 1e-2, "epochs": 0, "steps": 100, "batch_size": 16, "dropout": 0.0, "pooling": "mean"}
    return FinetuneConfig(**SIZE | size | given | changes)


def documents(folder, **changes):
    given = {"train_file": str(folder / "documents.txt"), "learning_rate": 1e-2, "epochs": 0, "steps": 8}
    return PretrainConfig(**SIZE | {"batch_size": 8} | given | changes)


def tags(folder, **changes):
    given = {"train_file": str(folder / "tags.conll"), "learning_rate": 1e-2, "epochs": 0, "steps": 60}
    given["recipe"] = "plain"
    return TagConfig(**SIZE | {"batch_size": 16, "dropout": 0.0} | given | changes)


def test_classes(folder, tmp_path):
    found = zoo.run(bert_finetune.build, classes(folder, baseline=True, label_smoothing=0.05), tmp_path)
    assert found["test/accuracy"] > 0.9 and found["test/baseline_accuracy"] > 0.9
    about = json.loads((tmp_path / "model.json").read_text())
    assert about["network"] == "encoder" and about["classes"] == sorted(MOODS) and about["frame"] == [2, 3]
    begun = pretrained_encoder.read(str(tmp_path))
    assert begun.shape.width == 16 and begun.weights is None and not begun.norm_first


def test_pairs(folder, tmp_path):
    """No word alone tells: the two must be compared."""
    config = classes(
        folder, train_file=str(folder / "pairs.csv"), text_column="question", pair_column="answer", label_column="same",
        steps=200,
    )  # fmt: skip
    found = zoo.run(bert_finetune.build, config, tmp_path)
    # One word tells nothing: half would be right.
    assert found["test/accuracy"] > 0.75


def test_values(folder, tmp_path):
    config = classes(
        folder, train_file=str(folder / "values.jsonl"), text_column="text", label_column="label", task="regression",
        steps=150, baseline=True,
    )  # fmt: skip
    found = zoo.run(bert_finetune.build, config, tmp_path)
    assert found["test/pearson"] > 0.8 and found["test/mae"] < 2.5, "of values from -4 to 13.5"
    assert found["test/spearman_low"] < found["test/spearman"] < found["test/spearman_high"]
    assert "test/baseline_pearson" in found and "test/accuracy" not in found


@pytest.mark.parametrize("next_sentence", [False, True])
def test_pretraining(folder, tmp_path, next_sentence):
    found = zoo.run(bert_pretrain.build, documents(folder, steps=100, next_sentence=next_sentence), tmp_path)
    # Twelve words of nine, and a number: a guess of one word has perplexity 9 at best.
    assert found["test/perplexity"] < 40
    assert found["test/perplexity"] == pytest.approx(np.exp(found["test/masked_loss"]))
    if next_sentence:
        total = found["test/masked_loss"] + found["test/next_loss"]
        assert found["test/loss"] == pytest.approx(total) and 0 <= found["test/next_accuracy"] <= 1


def by_layer(folder):
    model = keras.models.load_model(folder / "model.keras", compile=False)
    return {weight.path: weight.numpy() for weight in model.weights}


def test_fine_tuning_starts_from_pretraining(folder, tmp_path):
    zoo.run(bert_pretrain.build, documents(folder, steps=2), tmp_path / "pretrained")
    start = classes(folder, init_from=str(tmp_path / "pretrained"), steps=1, learning_rate=0.0, pooling="first")
    zoo.run(bert_finetune.build, start.replace(fresh_layers=1), tmp_path / "begun")
    theirs, mine = by_layer(tmp_path / "pretrained"), by_layer(tmp_path / "begun")
    assert {name for name in mine if name not in theirs} == {
        "pooler/kernel", "pooler/bias", "head/kernel", "head/bias"
    }  # fmt: skip
    same = {name for name in mine if name in theirs and np.array_equal(mine[name], theirs[name])}
    kernels = {name for name in mine if name.endswith("_kernel") and name.startswith("block")}
    assert {name for name in kernels if name in same} == {name for name in kernels if name.startswith("block0")}
    assert "embedding/token" in same
    words = [(tmp_path / name / "tokenizer.json").read_text() for name in ("pretrained", "begun")]
    assert words[0] == words[1]


def test_fine_tuning_starts_from_a_folder(folder, tmp_path):
    """All weights arrive where they belong, the pooler's too."""
    start = classes(
        folder, init_from=str(TINY), steps=1, learning_rate=0.0, layers=0, width=0, heads=0, pooling="first"
    )
    zoo.run(bert_finetune.build, start, tmp_path)
    given, mine = pretrained.read(TINY), by_layer(tmp_path)
    np.testing.assert_array_equal(mine["embedding/token"], given.weights["embedding/token"])
    np.testing.assert_array_equal(mine["pooler/kernel"], given.extra["pooler/kernel"])
    fused = [given.weights[f"block1/attention/{part}/kernel"] for part in ("query", "key", "value")]
    np.testing.assert_array_equal(mine["block1/attention_qkv_kernel"], np.concatenate(fused, axis=-1))
    about = json.loads((tmp_path / "model.json").read_text())
    assert about["shape"]["vocabulary"] == given.shape.vocabulary and about["shape"]["dropout"] == 0.0


def test_tags(folder, tmp_path, capsys):
    found = zoo.run(bert_tag.build, tags(folder, steps=120, recipe="auto"), tmp_path)
    said = capsys.readouterr()
    assert "entity F1 on the test sentences: " in said.out + said.err
    assert json.loads((tmp_path / "run.json").read_text())["config"]["metric"] == "f1"
    assert found["test/f1"] > 0.9 and found["test/f1/LOC"] > 0.9 and found["test/baseline_f1"] > 0.9
    about = json.loads((tmp_path / "model.json").read_text())
    assert about["tags"] == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"] and about["scheme"] == tagging.IOB2


def test_a_tagger_tunes_its_share(folder, tmp_path, capsys):
    """By the loss that the run reports; entities by F1."""
    tagged = (folder / "tags.conll").read_text()
    for old, new in (("B-PER", "name"), ("I-PER", "name"), ("B-LOC", "place"), (" O", " word")):
        tagged = tagged.replace(old, new)
    (tmp_path / "plain.conll").write_text(tagged)
    for name, metric in (("plain", "loss"), ("tags", "f1")):
        file = (tmp_path if name == "plain" else folder) / f"{name}.conll"
        found = zoo.run(
            bert_tag.build, tags(folder, train_file=str(file), word_features=True, steps=40), tmp_path / name
        )
        said = re.search(
            r"share in the logits: ([\d.]+); .* of the validation examples ([\d.]+) ", capsys.readouterr().err
        )
        share = keras.models.load_model(tmp_path / name / "model.keras").get_layer("mixture").shares().network
        assert share == pytest.approx(float(said[1]), abs=1e-6) == pytest.approx(found["network_share"], abs=1e-6)
        expected = found["eval/loss"] if metric == "loss" else 1 - found["eval/f1"]
        assert float(said[2]) == pytest.approx(expected, abs=1e-4)


def _dataset(sentences, words=10, scheme=tagging.IOB2):
    train = tagging.Sentences([["a"] * words] * sentences, [["O"] * words] * sentences)
    return tagging.TaggingDataset(train, train, train, ("O", "B-X", "I-X"), scheme)


@pytest.mark.parametrize(
    ("dataset", "changes", "expected"),
    [
        (
            _dataset(1350),
            {},
            {"epochs": 9.0, "metric": "f1", "export": "best", "baseline": True, "word_features": True},
        ),
        (_dataset(1350), {"word_features": False}, {"epochs": 24.0, "word_features": False}),
        (_dataset(20), {}, {"epochs": 30.0, "baseline": True}),
        (_dataset(40_000), {}, {"epochs": 3.0, "baseline": False, "word_features": False}),
        (_dataset(1350), {"init_from": "minilm"}, {"word_features": False, "epochs": 24.0}),
        (_dataset(1350), {"init_from": "minilm", "word_features": True}, {"word_features": True}),
        (_dataset(1350, scheme=tagging.PLAIN), {"epochs": 5.0}, {"epochs": 5.0, "metric": "accuracy"}),
        (_dataset(1350), {"steps": 70}, {"epochs": 0.0, "steps": 70}),
        (
            _dataset(1350),
            {"recipe": "plain"},
            {"epochs": 3.0, "metric": "loss", "word_features": False, "baseline": False},
        ),
    ],
)
def test_the_recipe_of_a_tagger_follows_the_data(dataset, changes, expected):
    config = TagConfig(**changes)
    config = config.filled(**bert_tag.recipe_values(config, dataset))
    assert {name: getattr(config, name) for name in expected} == expected


def test_a_tagger_says_when_the_linear_model_is_better():
    config = TagConfig(recipe="plain")
    result = {"test/f1": 0.051, "test/baseline_f1": 0.334}
    between, few = bert_tag.conclusion(config, _dataset(1350), result)
    assert between.endswith("5.1% for this network, 33.4% for the linear model")
    assert few.startswith("1,350 training sentences are too few") and "--init_from=minilm" in few
    assert "init_from" not in bert_tag.conclusion(config.replace(init_from="minilm"), _dataset(9), result)[1]
    assert len(bert_tag.conclusion(config, _dataset(9), result | {"test/f1": 0.4})) == 1
    accuracy = {"test/accuracy": 0.9, "test/baseline_accuracy": 0.8}
    assert "accuracy on the test" in bert_tag.conclusion(config, _dataset(9, scheme=tagging.PLAIN), accuracy)[0]


def test_a_long_tagged_sentence_is_read_in_several_rows(folder, tmp_path):
    """In training and evaluation as in prediction: the last word, alone in its row, is learned and counted."""
    found = zoo.run(bert_tag.build, tags(folder, context=4, steps=120), tmp_path)
    assert found["test/support/LOC"] == found["test/support/PER"] == 12
    assert found["test/recall/LOC"] > 0.9


CONFIGS = {
    "finetune": (bert_finetune.build, classes),
    "pretrain": (bert_pretrain.build, documents),
    "next_sentence": (bert_pretrain.build, documents),
    "tag": (bert_tag.build, tags),
}


# Pretraining with next sentences is pretraining with one more head.
NAMES = [pytest.param(name, marks=pytest.mark.thorough) if name == "pretrain" else name for name in CONFIGS]


def config_of(name, folder, **changes):
    build, make = CONFIGS[name]
    return build, make(folder, dropout=0.2, **({"next_sentence": True} if name == "next_sentence" else {}), **changes)


def trained(build, config, replicas):
    strategy = devices.mirrored_cpus(replicas) if replicas > 1 else devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(config.seed)
        experiment = build(config)
    engine = make_engine(strategy, config, experiment, total_steps(config, experiment))
    engine.train(experiment.train, 0, 3)
    return engine, engine.evaluate(experiment.evals["eval"])


@pytest.mark.parametrize("name", NAMES)
def test_the_same_run(folder, name):
    """On replicas in micro-batches, with dropout, masks, clipping and decay."""
    build, config = config_of(name, folder, batch_size=7, learning_rate=1e-3)
    one, means = trained(build, config, 1)
    other, found = trained(build, config.replace(accumulate=3), 2)
    assert furthest(one.state(), other.state()) < 1e-5
    assert found == pytest.approx(means, abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("pairs", {"r_drop": 2.0, "dropout": 0.2}),
        ("pairs", {"token_drop": 0.5, "token_swap": 0.5}),
        ("values", {"r_drop": 2.0, "dropout": 0.2, "token_swap": 0.5}),
        ("tags", {"r_drop": 2.0, "dropout": 0.2}),
    ],
)
def test_two_passes_and_changed_texts(folder, kind, changes):
    """What tests/models/test_r_drop.py and tests/data/test_token_augmentation.py show is what these flags ask for."""
    files = {
        "pairs": {"train_file": str(folder / "pairs.csv"), "text_column": "question", "pair_column": "answer",
                  "label_column": "same", "ngrams": False},
        "values": {"train_file": str(folder / "values.jsonl"), "text_column": "text", "label_column": "label",
                   "task": "regression"},
    }  # fmt: skip
    if kind == "tags":
        experiment = bert_tag.build(tags(folder, **changes))
    else:
        experiment = bert_finetune.build(classes(folder, baseline=False, **files[kind], **changes))
    batch = {name: tf.constant(column) for name, column in experiment.train.at(0)[0].items()}
    with xla_islands.uncompiled(), randomness.scope(0, tf.constant(0), tf.constant(0)):
        found = experiment.forward(experiment.model, batch, True)
        plain = experiment.forward(experiment.model, batch, False)
    assert "r_drop" not in plain and not np.allclose(found["loss"].values, plain["loss"].values)
    if "r_drop" not in changes:
        assert tuple(experiment.objective) == ("loss",) and "r_drop" not in found
        return
    assert (
        tuple(experiment.objective) == ("loss", "r_drop") and found["r_drop"].values.shape == found["loss"].values.shape
    )
    assert np.all(found["r_drop"].values > 0)


@pytest.mark.parametrize("name", NAMES)
def test_resumes_bitwise(folder, name, tmp_path):
    build, config = config_of(name, folder, checkpoint_every=3)
    config = config.replace(steps=7)
    zoo.run(build, config, tmp_path / "whole")
    killed = as_if_killed(tmp_path / "whole", tmp_path, 3)
    zoo.run(build, config, killed)
    whole, cut = final_state(tmp_path / "whole", 7).state, final_state(killed, 7).state
    assert whole.keys() == cut.keys() and all(np.array_equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"width": 17}, "--width is 17 and --heads is 2"),
        ({"init_from": "no/such"}, "no/such is not a folder"),
        ({"init_from": "."}, "neither model.json nor config.json"),
        ({"init_from": str(TINY)}, "--width is 16: .* has 8; leave the flag out"),
        ({"init_from": str(TINY), "layers": 0, "width": 0, "heads": 0, "context": 17}, "--context is 17: .* has 16"),
        ({"init_from": str(TINY), "layers": 0, "width": 0, "fresh_layers": 3}, "--fresh_layers is 3: .* has 2 layers"),
        ({"fresh_layers": 1}, "--fresh_layers is 1 without --init_from"),
        ({"tokenizer": "wordpeace"}, "did you mean wordpiece"),
        ({"share": 0.0}, "--share is 0: expected more than 0"),
        ({"task": "regression"}, "'mood' is '(good|bad|neutral)'; expected a number"),
        ({"pair_column": "pair"}, "has no column 'pair'.*--pair_column"),
        ({"train_file": "", "pair_column": "pair"}, "--pair_column=pair without --train_file"),
    ],
)
def test_what_is_refused(folder, change, said):
    with pytest.raises(BadInput, match=said):
        bert_finetune.build(classes(folder, **change))


def test_what_pretraining_refuses(folder, tmp_path):
    with pytest.raises(BadInput, match="--whole_words: the tokenizer has no pieces"):
        bert_pretrain.build(documents(folder, whole_words=True))
    with pytest.raises(BadInput, match="--probe with --train_file"):
        bert_pretrain.build(documents(folder, probe=True))
    with pytest.raises(BadInput, match="expected 5 or more"):
        bert_pretrain.build(documents(folder, context=4))


def test_a_share_of_the_labels(folder):
    """A smaller share is a part of a larger one, and has each class."""
    given = {"train_file": str(folder / "reviews.csv"), "text_column": "review", "label_column": "mood"}
    whole = text_classification.load("", **given)
    parts = [text_splits.subsample(whole, share, seed=3).train for share in (0.001, 0.1, 0.5, 1.0)]
    for small, large in itertools.pairwise(parts):
        assert set(small.texts) < set(large.texts)
    assert [len(part.texts) for part in parts[1:]] == [-(-len(whole.train.texts) * n // 10) for n in (1, 5, 10)]
    assert set(parts[0].labels) == {0, 1, 2}
    assert parts[3].texts == whole.train.texts


def test_the_probe_in_pretraining(tmp_path):
    """Of the embedded Chinese reviews, after a few steps: both scores are there, and better than none."""
    config = PretrainConfig(**SIZE | {"vocabulary": 3000}, probe=True, epochs=0, steps=3)
    found = zoo.run(bert_pretrain.build, config, tmp_path)
    assert 0.55 < found["probe/linear_accuracy"] < 0.95
    assert 0.2 < found["probe/zero_shot_accuracy"] < 0.8
    assert "probe/loss" not in found
