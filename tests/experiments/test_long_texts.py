"""An encoder that reads the first tokens of a text, and n-grams beside it that read the whole text."""

import json
import shutil

import keras
import numpy as np
import pytest

import zoo
from experiments import bert_finetune
from zoo.adaptation import refiner
from zoo.adaptation.stages.perturbation import Perturbation
from zoo.adaptation.task_adaptive_pretraining import adapt
from zoo.export import exported_run
from zoo.metrics.logits import two_class_logits
from zoo.models import keras_only
from zoo.predict.attribution.integrated_gradients import Explainer
from zoo.predict.early_exit import layerwise_encoder
from zoo.predict.evaluation import evaluate, held_out
from zoo.predict.retrieval import embedder

WORDS = {"good": ["fine", "great", "lovely"], "bad": ["awful", "poor", "dull"]}
CONTEXT = 16


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def texts(count, seed):
    """Texts of 30 words, of which the last but one tells the class."""
    draw = np.random.default_rng(seed)
    for number in range(count):
        mood = list(WORDS)[number % 2]
        words = draw.choice(["the", "film", "was", "seen", "today", "by", "us"], 30)
        words[-2] = draw.choice(WORDS[mood])
        yield {"text": " ".join(words), "label": mood}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    for name, count, seed in (("train", 300, 0), ("test", 100, 1)):
        rows = map(json.dumps, texts(count, seed))
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    files = {f"{name}_file": str(folder / f"{name}.jsonl") for name in ("train", "test")}
    size = {"layers": 2, "width": 16, "heads": 2, "context": CONTEXT, "vocabulary": 80, "tokenizer": "word"}
    short = {"epochs": 0, "steps": 20, "batch_size": 16, "compile": "none", "pooling": "mean", "baseline": False}
    result = zoo.run(bert_finetune.build, bert_finetune.FinetuneConfig(**files, **size, **short), folder / "run")
    return folder / "run", result


@pytest.fixture(scope="module")
def predictor(run):
    """With a share of the encoder, which has none: it does not read the word that tells the class."""
    loaded = zoo.load(run[0])
    assert run[1]["network_share"] == loaded.model.get_layer("mixture").shares().network == 0
    loaded.model.get_layer("mixture").set_share(0.3)
    return loaded


@pytest.fixture(scope="module")
def examples():
    return [row["text"] for row in texts(40, 2)]


def test_the_whole_text_decides(run, predictor, examples):
    """In training, in `zoo evaluate` and in answers to single texts."""
    folder, result = run
    assert result["test/accuracy"] > 0.95
    assert evaluate.evaluate(folder)["accuracy"] == pytest.approx(result["test/accuracy"])
    one_by_one = np.concatenate([predictor.logits([text]) for text in examples])
    np.testing.assert_allclose(one_by_one, predictor.logits(examples), atol=1e-5)


def test_the_encoder_reads_the_first_tokens(predictor, examples):
    from zoo.models import encoder_heads

    alone = encoder_heads.without_ngrams(predictor.model)
    tokens = predictor.columns(examples)["tokens"]
    assert tokens.shape == (40, 32)
    short, zeros = tokens[:, :CONTEXT], np.zeros_like(tokens)
    expected = alone([short, zeros[:, :CONTEXT]]).numpy()
    np.testing.assert_allclose(alone([tokens, zeros]).numpy(), expected, atol=1e-6)


def test_an_explanation_names_the_word_behind_the_context(predictor, examples):
    for found in Explainer(predictor).explain(examples[:4]):
        assert found.complete
        most = max(found.tokens, key=lambda token: token.attribution)
        assert most.attribution > 0 and found.text[most.start : most.end] in found.text.split()[-2]


def test_layer_by_layer(predictor, examples):
    *_, logits = layerwise_encoder.LayerwiseEncoder(predictor.model).all_layers(predictor, examples)
    np.testing.assert_allclose(logits, predictor.logits(examples), atol=1e-5)


def test_a_run_of_an_earlier_version(run, predictor, examples, tmp_path):
    """Its shares are constants of two layers; it is predicted, explained and run layer by layer as ever."""
    model, folder = predictor.model, tmp_path / "old"
    weighted = [
        keras.layers.Rescaling(share, name=name)(model.get_layer(part).output)
        for share, name, part in ((0.3, "network_share", "head"), (0.7, "ngram_share", "ngrams"))
    ]
    shutil.copytree(run[0], folder)
    keras.Model(model.inputs, keras.layers.Add(name="logits")(weighted)).save(folder / "model.keras")
    old = zoo.load(folder)
    np.testing.assert_allclose(old.logits(examples), predictor.logits(examples), atol=1e-5)
    *_, logits = layerwise_encoder.LayerwiseEncoder(old.model).all_layers(old, examples)
    np.testing.assert_allclose(logits, predictor.logits(examples), atol=1e-5)
    for ours, theirs in zip(Explainer(predictor).explain(examples[:3]), Explainer(old).explain(examples[:3])):
        assert theirs.complete and theirs.baseline == pytest.approx(ours.baseline, abs=1e-4)
        attributions = [[token.attribution for token in each.tokens] for each in (ours, theirs)]
        np.testing.assert_allclose(*attributions, atol=1e-4)


def test_in_layers_of_keras(predictor, examples):
    """As in exports; a text of fewer tokens than the context, too."""
    plain = keras_only.plain(predictor.model)
    for text in (examples[0], "fine film"):
        tokens = predictor.columns([text])["tokens"]
        np.testing.assert_allclose(plain(tokens), predictor.logits([text]), atol=1e-5)


def test_an_export_reads_as_many_tokens(run):
    assert exported_run.read(run[0]).signature["text"]["max_length"] == 1024


def test_perturbation(predictor, examples):
    logits, stage = two_class_logits(predictor.logits(examples)), Perturbation()
    stage.begin(predictor, held_out.HeldOut(examples, logits.argmax(axis=1), logits))
    assert stage.propose(refiner.StreamContext(examples, examples, logits, predictor.logits, False)) == ""
    changed = stage.logits(examples, lambda asked: two_class_logits(predictor.logits(asked)))
    assert 0 < np.abs(changed - logits).max() < 1


def test_task_adaptive_pretraining(run, predictor, examples):
    source = held_out.load(run[0], predictor)
    adapted = adapt(predictor, examples, source, examples, epochs=1, rounds=1, warm_steps=2, batch_size=16)
    assert len(adapted.trace) == 1


def test_a_search_by_its_encoder(run, examples):
    assert embedder.load(run[0]).embed(examples).shape == (40, 16)
