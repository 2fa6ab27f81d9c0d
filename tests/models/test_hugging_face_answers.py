"""The other side: what is written here loads in transformers and computes the same, and the other way round.

Run where torch and transformers are installed (4.57 and 5.23 were); the other tests need neither.
"""

import dataclasses
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import bert_folders as folders
from tests.helpers.bert_folders import FIXTURES, TINY
from zoo.data.text import tokenizer
from zoo.errors import BadInput
from zoo.models.hugging_face import folder as pretrained
from zoo.models.hugging_face import tokenizer as bert_tokenizer

needed = "needs torch and transformers, which the zoo does not"
torch = pytest.importorskip("torch", reason=needed)
transformers = pytest.importorskip("transformers", reason=needed)
# Their own, on import and in save_pretrained.
pytestmark = pytest.mark.filterwarnings("default")

RECORDED = json.loads((FIXTURES / "tiny_tokens.json").read_text())
SHAPE = pretrained.Shape(60, 12, 3, 4, 7, 9, activation="gelu_new", epsilon=1e-5)
IDS = np.array([[2, 9, 8, 7, 3, 0], [2, 11, 30, 45, 59, 3]])
MASK = np.array([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]])
SEGMENTS = np.array([[0, 0, 0, 1, 1, 0], [0, 1, 1, 1, 1, 1]])
TEXTS = ["A good film, 这本书很好!", "", "[MASK] bad films"]


def definition() -> str:
    return tokenizer.train(["a good film, 这本书很好"] * 9, "wordpiece", 60).to_json()


def loaded(auto, folder):
    model, report = auto.from_pretrained(folder, output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    return model.eval()


def outputs(model):
    with torch.no_grad():
        return model(torch.tensor(IDS), torch.tensor(MASK), torch.tensor(SEGMENTS))


def test_a_backbone(tmp_path):
    made = folders.made(SHAPE, ["pooler"])
    pretrained.write(tmp_path / "x", made, definition())
    found = outputs(loaded(transformers.AutoModel, tmp_path / "x"))
    seen, states = MASK == 1, folders.hidden(made, IDS, SEGMENTS, MASK)
    np.testing.assert_allclose(found.last_hidden_state.numpy()[seen], states[seen], atol=1e-4)


def test_masked_language_models(tmp_path):
    made = folders.made(SHAPE, ["mask", "pooler", "next"])
    alone = made._replace(extra={name: x for name, x in made.extra.items() if name.startswith("mask/")})
    states, seen = folders.hidden(made, IDS, SEGMENTS, MASK), MASK == 1
    tops = folders.tops(made, states)
    pretrained.write(tmp_path / "all", made, definition())
    pretrained.write(tmp_path / "alone", alone, definition())
    found = outputs(loaded(transformers.AutoModelForPreTraining, tmp_path / "all"))
    np.testing.assert_allclose(found.seq_relationship_logits.numpy(), tops["next"], atol=1e-4)
    np.testing.assert_allclose(found.prediction_logits.numpy()[seen], tops["mask"][seen], atol=1e-4)
    for model in (
        loaded(transformers.AutoModelForMaskedLM, tmp_path / "alone"),
        transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "all").eval(),
    ):
        np.testing.assert_allclose(outputs(model).logits.numpy()[seen], tops["mask"][seen], atol=1e-4)


@pytest.mark.parametrize("heads", [["head"], ["head", "pooler"]])
def test_classifiers(tmp_path, heads):
    made = folders.made(SHAPE, heads)
    pretrained.write(tmp_path / "x", made, definition())
    whole, token = transformers.AutoModelForSequenceClassification, transformers.AutoModelForTokenClassification
    model = loaded(whole if "pooler" in heads else token, tmp_path / "x")
    states = folders.hidden(made, IDS, SEGMENTS, MASK)
    states = np.tanh(folders.dense(states[:, 0], made.extra, "pooler")) if "pooler" in heads else states
    wanted = folders.dense(states, made.extra, "head")
    seen = slice(None) if "pooler" in heads else MASK == 1
    np.testing.assert_allclose(outputs(model).logits.numpy()[seen], wanted[seen], atol=1e-4)
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"} and model.config.label2id["c"] == 2


def test_what_transformers_saves_of_an_export_is_the_export(tmp_path):
    made = folders.made(dataclasses.replace(SHAPE, dropout=0.0), ["mask", "pooler", "next"])
    pretrained.write(tmp_path / "x", made, definition())
    transformers.AutoModelForPreTraining.from_pretrained(tmp_path / "x").save_pretrained(tmp_path / "y")
    transformers.AutoTokenizer.from_pretrained(tmp_path / "x").save_pretrained(tmp_path / "y")
    assert folders.same(pretrained.read(tmp_path / "y"), made)
    one, other = (bert_tokenizer.library(pretrained.tokenizer_json(tmp_path / name)) for name in "xy")
    assert [one.encode(text).ids for text in TEXTS] == [other.encode(text).ids for text in TEXTS]


@pytest.mark.parametrize("kind", tokenizer.KINDS)
def test_tokenizers_made_here(tmp_path, kind):
    made = tokenizer.train(["a good film, 这本书很好"] * 9, kind, 60)
    pretrained.write(tmp_path / "x", folders.made(SHAPE), made.to_json())
    found = transformers.AutoTokenizer.from_pretrained(tmp_path / "x")
    for text in TEXTS[:2]:
        assert found(text)["input_ids"] == [2, *made.encode([text]).ids.tolist(), 3]
    assert (found.pad_token_id, found.mask_token_id, found.model_max_length) == (0, 4, 9)
    assert len(found) == made.vocabulary_size


@pytest.mark.parametrize("row", RECORDED["found"][::5], ids=lambda row: str([*row["settings"].values()]))
@pytest.mark.parametrize("files", ["vocab.txt", "tokenizer.json", "export"])
def test_tokenizers_of_bert(tmp_path, row, files):
    """The recorded ids, from each of the files; a tokenizer.json is overruled by the settings there as here."""
    folder = folders.copy(tmp_path / "x")
    (folder / "tokenizer_config.json").write_text(json.dumps(row["settings"] | {"tokenizer_class": "BertTokenizer"}))
    if files == "tokenizer.json":
        (folder / files).write_text(pretrained.tokenizer_json(TINY), encoding="utf8")
    if files == "export":
        model = pretrained.read(folder)
        shutil.move(folder, tmp_path / "source")
        pretrained.write(folder, model._replace(tokenizer=tmp_path / "source" / "vocab.txt"))
    found = transformers.AutoTokenizer.from_pretrained(folder)
    ours = bert_tokenizer.library(pretrained.tokenizer_json(folder))
    for text, wanted in zip(RECORDED["texts"], row["ids"], strict=True):
        # transformers 4 keeps space at the end of a line of vocab.txt, and so has no "q".
        if not text.startswith("q"):
            assert found(text)["input_ids"] == wanted == ours.encode(text).ids


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_floats(tmp_path, dtype):
    model = transformers.AutoModelForPreTraining.from_pretrained(TINY).to(dtype)
    folders.copy(tmp_path / "x")
    model.save_pretrained(tmp_path / "x")
    found = pretrained.read(tmp_path / "x")
    for name, values in model.float().state_dict().items():
        if name.endswith("layer.1.intermediate.dense.weight"):
            assert np.array_equal(found.weights["block1/inner/kernel"], values.numpy().T)
    assert np.array_equal(found.weights["embedding/token"], model.bert.embeddings.word_embeddings.weight.detach())


def test_shards(tmp_path):
    folders.copy(tmp_path / "x")
    (tmp_path / "x" / "model.safetensors").unlink()
    model = transformers.AutoModelForPreTraining.from_pretrained(TINY)
    model.save_pretrained(tmp_path / "x", max_shard_size="4KB")
    assert len(list((tmp_path / "x").glob("*.safetensors"))) > 1
    assert folders.same(pretrained.read(tmp_path / "x"), pretrained.read(TINY))


def test_the_command_that_converts_a_pickle(tmp_path):
    folder = folders.copy(tmp_path / "x")
    model = transformers.AutoModelForPreTraining.from_pretrained(TINY)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadInput) as error:
        pretrained.read(folder)
    code = re.search(r'python -c "(.*)"$', str(error.value)).group(1)
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, timeout=60)
    assert folders.same(pretrained.read(folder), pretrained.read(TINY))
