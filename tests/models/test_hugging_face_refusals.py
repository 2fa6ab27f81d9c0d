"""Folders that are no BERT, or damaged: one line each, with the file and how to mend it."""

import json
import math
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import bert_folders as folders
from tests.helpers.bert_folders import TINY
from zoo.errors import BadInput
from zoo.models.hugging_face import folder as pretrained
from zoo.models.hugging_face.config import FILE as CONFIG

BODY = "bert.embeddings.word_embeddings.weight"


def refusal(folder) -> str:
    with pytest.raises(BadInput) as error:
        pretrained.read(folder)
    said = str(error.value)
    assert str(folder) in said and "\n" not in said
    return said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta'; expected 'bert'"),
        (
            {"model_type": None},
            "lacks 'model_type'; expected a config.json as transformers writes it: add it, the first",
        ),
        ({"layer_norm_eps": None}, "lacks 'layer_norm_eps'; expected a config.json as transformers writes it: add it"),
        ({"hidden_size": None}, "lacks 'hidden_size'; expected a config.json as transformers writes it"),
        ({"num_attention_heads": 3}, "hidden_size is 8, num_attention_heads is 3; expected heads of one width"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0; expected a whole number from 1 to 1000"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; expected a whole number from 1"),
        ({"vocab_size": "50"}, "vocab_size is '50'; expected a whole number, 1 or more"),
        ({"intermediate_size": 12.0}, "intermediate_size is 12.0; expected a whole number"),
        ({"max_position_embeddings": True}, "max_position_embeddings is True; expected a whole number"),
        ({"layer_norm_eps": math.nan}, "layer_norm_eps is nan; expected a small number above 0"),
        ({"hidden_dropout_prob": 1}, "hidden_dropout_prob is 1; expected a rate from 0 to less than 1"),
        ({"hidden_act": "silu"}, "hidden_act is 'silu'; expected one of gelu, gelu_new, relu"),
        ({"hidden_act": ["gelu"]}, "hidden_act is ['gelu']; expected one of"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'; expected 'absolute'"),
        ({"is_decoder": True}, "is_decoder is True; expected False"),
        ({"vocab_size": 49}, "vocab.txt has the id 49, the embedding has 49 rows"),
        ({"vocab_size": 51}, f"{BODY.removeprefix('bert.')}: shape (50, 8), expected (51, 8) (2 in"),
        ({"num_hidden_layers": 1}, "encoder.layer.1.attention.output.LayerNorm.bias: unexpected; "),
        ({"num_hidden_layers": 3}, "encoder.layer.2.attention.output.LayerNorm.bias: missing; "),
    ],
)
def test_configs(tmp_path, changes, said):
    assert said in refusal(folders.copy(tmp_path / "x", **changes))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory; expected the one that came with the weights"),
        (b"", "is not JSON (Expecting value"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff{}", "is not JSON"),
        (b"[]", "is JSON, but not an object"),
        (b"{}", "lacks 'model_type'"),
    ],
)
def test_config_files(tmp_path, content, said):
    folder = folders.copy(tmp_path / "x")
    (folder / CONFIG).unlink()
    if content is not None:
        (folder / CONFIG).write_bytes(content)
    assert said in refusal(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.pop("cls.seq_relationship.bias"), ": cls.seq_relationship.bias: missing (1 in all)"),
        (lambda x: x.pop(BODY), "embeddings.word_embeddings.weight: missing (1 in all)"),
        (lambda x: x.update({"qa_outputs.weight": np.ones(2)}), "qa_outputs.weight: unexpected (1 in all)"),
        (lambda x: x.update({BODY: np.ones((8, 50))}), "word_embeddings.weight: shape (8, 50), expected (50, 8)"),
        (lambda x: x.update({BODY: ("I8", np.ones((50, 8), np.int8))}), "of type I8, expected F32, F16 or BF16"),
        (lambda x: x.update({BODY: np.full((50, 8), np.nan)}), "weight: has numbers that are not finite"),
        (lambda x: x.update({"cls.predictions.decoder.weight": np.ones((50, 8))}), "an untied decoder is not supp"),
        (lambda x: x.update({"cls.predictions.decoder.weight": np.ones(3)}), "an untied decoder is not supported"),
        (lambda x: x.update({"cls.predictions.decoder.bias": np.ones(50)}), "another tensor that means cls.pred"),
        (lambda x: x.update({BODY.removeprefix("bert."): np.ones((50, 8))}), "differs from another tensor that means"),
        (lambda x: x.update({"classifier.bias": np.ones(3)}), ": classifier.weight: missing (1 in all)"),
        (lambda x: x.update({"classifier.weight": np.ones((3, 8))}), ": classifier.bias: missing (1 in all)"),
        (lambda x: x.update({"classifier.weight": np.ones(())}), "classifier.weight: shape (), expected (1, 8) (2"),
    ],
)  # fmt: skip
def test_tensors(tmp_path, change, said):
    tensors = folders.unpacked()
    change(tensors)
    found = refusal(folders.copy(tmp_path / "x", tensors))
    assert said in found and "model.safetensors does not fit the model of its config.json: " in found


def test_a_decoder_needs_the_rest_of_its_head(tmp_path):
    tensors = {name: values for name, values in folders.unpacked().items() if not name.startswith("cls.predictions")}
    said = refusal(folders.copy(tmp_path / "x", tensors | {"cls.predictions.decoder.weight": tensors[BODY]}))
    assert "cls.predictions.bias: missing; " in said and said.endswith("(5 in all)")


def test_a_long_list_is_cut(tmp_path):
    said = refusal(folders.copy(tmp_path / "x", {"one": np.ones(1)}))
    assert said.count(";") == 5 and said.endswith("(38 in all)")


def test_labels_are_those_of_the_classes(tmp_path):
    tensors = folders.unpacked() | {"classifier.weight": np.ones((3, 8)), "classifier.bias": np.ones(3)}
    said = refusal(folders.copy(tmp_path / "x", tensors, id2label={"0": "a", "1": "b"}))
    assert "config.json: id2label is {'0': 'a', '1': 'b'}; expected names for 0 to 2, as many as classifier" in said


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("pytorch_model.bin", b"x", "has pytorch_model.bin, and no model.safetensors; expected safetensors"),
        ("tf_model.h5", b"x", "has tf_model.h5, and no model.safetensors"),
        ("notes", b"x", "has no model.safetensors (nor model.safetensors.index.json); expected the weights there"),
        ("model.safetensors", b"", "is damaged or incomplete ("),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "run `git lfs pull`"),
        ("model.safetensors.index.json", b"{}", "has no weight_map"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "../x.safetensors"}}', "has no weight_map; expected"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": 1}}', "has no weight_map"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "b.safetensors"}}', "cannot be read: No such file"),
    ],
)  # fmt: skip
def test_files(tmp_path, file, content, said):
    folder = folders.copy(tmp_path / "x")
    (folder / "model.safetensors").unlink()
    (folder / file).write_bytes(content)
    assert said in refusal(folder)


def test_a_shard_that_is_not_as_the_index_says(tmp_path):
    folder = folders.copy(tmp_path / "x")
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    listed = dict.fromkeys(["what", *folders.unpacked()][:-1], "a.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))
    said = refusal(folder)
    assert "what: only in the index as of a.safetensors (2 in all)" in said and ": not in the index as of " in said


def test_no_folder_and_no_tokenizer(tmp_path):
    assert "is not a folder; expected one with config.json" in refusal(tmp_path / "bert-base-chinese")
    folder = folders.copy(tmp_path / "x")
    (folder / "vocab.txt").unlink()
    assert "has neither tokenizer.json nor vocab.txt" in refusal(folder)


@pytest.fixture(scope="module")
def torn(tmp_path_factory):
    return folders.copy(tmp_path_factory.mktemp("torn") / "x")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([CONFIG, "model.safetensors", "vocab.txt", "tokenizer_config.json"]), st.data())
def test_any_damage_is_refused_in_one_line_or_harmless(torn, file, data):
    whole = (TINY / file).read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    cut = whole[:place]
    changed = cut + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    (torn / file).write_bytes(cut if data.draw(st.booleans()) else changed)
    try:
        found = pretrained.read(torn)
        assert found.shape.layers == 2 and len(found.weights) == 37
    except BadInput as error:
        assert str(torn) in str(error) and "\n" not in str(error)
    finally:
        shutil.copy(TINY / file, torn / file)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted({**json.loads((TINY / CONFIG).read_text()), "id2label": 0, "pruned_heads": 0})), _JSON)
def test_any_value_in_a_config_is_refused_in_one_line_or_harmless(torn, key, value):
    whole = json.loads((TINY / CONFIG).read_text())
    (torn / CONFIG).write_text(json.dumps(whole | {key: value}))
    try:
        assert len(pretrained.read(torn).weights) == 37
    except BadInput as error:
        assert str(torn) in str(error) and "\n" not in str(error)
    finally:
        shutil.copy(TINY / CONFIG, torn / CONFIG)
