"""Tokenizers of BERT's folders: the ids that transformers gives, and files that say what they are."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import bert_folders as folders
from tests.helpers.bert_folders import FIXTURES, TINY
from zoo.data.text import tokenizer as trained
from zoo.errors import BadInput
from zoo.models.hugging_face import folder as pretrained
from zoo.models.hugging_face import tokenizer

RECORDED = json.loads((FIXTURES / "tiny_tokens.json").read_text())
SETTINGS = [row["settings"] for row in RECORDED["found"]]


def folder_of(folder, vocabulary=None, settings=None, definition=None):
    folders.copy(folder)
    if vocabulary is not None:
        (folder / "vocab.txt").write_bytes(vocabulary)
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if definition is not None:
        (folder / "tokenizer.json").write_text(definition, encoding="utf8")
    return folder


def ids(definition, texts=RECORDED["texts"]):
    made = tokenizer.library(definition)
    return [made.encode(text).ids for text in texts]


@pytest.mark.parametrize("row", RECORDED["found"], ids=lambda row: str([*row["settings"].values()]))
def test_a_vocabulary_alone_gives_the_ids_of_transformers(tmp_path, row):
    assert ids(pretrained.tokenizer_json(folder_of(tmp_path / "x", settings=row["settings"]))) == row["ids"]


def test_settings_may_be_missing(tmp_path):
    folder = folder_of(tmp_path / "x")
    (folder / "tokenizer_config.json").unlink()
    assert ids(pretrained.tokenizer_json(folder)) == RECORDED["found"][0]["ids"]


def test_lines_may_end_as_in_windows(tmp_path):
    content = (TINY / "vocab.txt").read_bytes().replace(b"\n", b"\r\n")
    assert pretrained.tokenizer_json(folder_of(tmp_path / "x", content)) == pretrained.tokenizer_json(TINY)


def test_a_tokenizer_json_is_taken_as_it_stands(tmp_path):
    text = trained.train(["a good film"] * 9, "wordpiece", 50).to_json()
    assert pretrained.tokenizer_json(folder_of(tmp_path / "x", definition=text)) == text
    text = json.dumps(json.loads(pretrained.tokenizer_json(TINY)), indent=3)
    assert pretrained.tokenizer_json(folder_of(tmp_path / "y", definition=text)) == text


@pytest.mark.parametrize("row", RECORDED["found"], ids=lambda row: str([*row["settings"].values()]))
def test_settings_overrule_a_bert_tokenizer_json_as_in_transformers(tmp_path, row):
    text = pretrained.tokenizer_json(TINY)
    folder = folder_of(tmp_path / "x", settings=row["settings"], definition=text)
    assert ids(pretrained.tokenizer_json(folder)) == row["ids"]
    plain = row["settings"] | {"tokenizer_class": "PreTrainedTokenizerFast"}
    assert pretrained.tokenizer_json(folder_of(tmp_path / "y", settings=plain, definition=text)) == text


def test_special_tokens_of_other_names(tmp_path):
    content = (TINY / "vocab.txt").read_bytes().replace(b"[CLS]", b"<s>").replace(b"[MASK]", b"<mask>")
    settings = {"cls_token": "<s>", "mask_token": {"content": "<mask>", "lstrip": False}}
    found = ids(pretrained.tokenizer_json(folder_of(tmp_path / "x", content, settings)), ["film<mask>"])
    assert found == [[2, 9, 4, 3]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vocabulary": b"[PAD]\n[UNK]\n[SEP]\n[MASK]\n"}, "vocab.txt lacks [CLS]; expected a line for each"),
        ({"vocabulary": b""}, "vocab.txt lacks [UNK], [SEP], [PAD], [CLS], [MASK]"),
        ({"vocabulary": b"\xff\xfe"}, "vocab.txt cannot be read (Error while reading WordPiece file"),
        ({"settings": []}, "tokenizer_config.json is JSON, but not an object"),
        ({"settings": {"do_lower_case": "no"}}, "tokenizer_config.json: do_lower_case is 'no'; expected true or false"),
        ({"settings": {"do_lower_case": None}}, "do_lower_case is None; expected true or false"),
        ({"settings": {"cls_token": 3}}, "tokenizer_config.json: cls_token is 3; expected a token"),
        ({"settings": {"added_tokens_decoder": {"50": {"content": "<x>"}}}}, "has tokens besides vocab.txt; expec"),
        ({"settings": {"added_tokens_decoder": 5}}, "added_tokens_decoder is 5; expected a token"),
        ({"definition": "{}"}, "tokenizer.json is not a tokenizer.json ("),
    ],
)  # fmt: skip
def test_refusals(tmp_path, change, said):
    with pytest.raises(BadInput) as error:
        pretrained.read(folder_of(tmp_path / "x", **change))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_padding_is_0(tmp_path):
    content = (TINY / "vocab.txt").read_bytes().replace(b"[PAD]\n", b"first\n").replace(b"\na\n", b"\n[PAD]\n")
    with pytest.raises(BadInput, match=r"has 'first' for id 0; expected padding there, \[PAD\] or <pad>"):
        pretrained.read(folder_of(tmp_path / "x", content))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """For each of the settings a tokenizer.json, and the same again from the other files of an export."""
    pairs = []
    for number, chosen in enumerate(SETTINGS):
        folder = folder_of(tmp_path_factory.mktemp("export") / "x", settings=chosen)
        files = tokenizer.files(pretrained.tokenizer_json(folder), 16)
        said = json.loads(files["tokenizer_config.json"])
        assert said["tokenizer_class"] == "BertTokenizer" and said["model_max_length"] == 16
        other = folder_of(folder.with_name(f"y{number}"), files["vocab.txt"].encode(), said)
        pairs.append([tokenizer.library(text) for text in (files["tokenizer.json"], pretrained.tokenizer_json(other))])
    return pairs


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(SETTINGS) - 1), st.text(max_size=12) | st.text(st.sampled_from("afilm Ééüb书好,[CLS]12ｆ")))
def test_the_files_of_an_export_agree(exported, number, text):
    one, other = exported[number]
    assert one.encode(text).ids == other.encode(text).ids
    assert one.encode(text, "film").type_ids == other.encode(text, "film").type_ids


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x["model"].update(max_input_chars_per_word=9),
        lambda x: x["normalizer"].update(clean_text=False),
        lambda x: x["model"]["vocab"].update({"two\nlines": 7, "!": 50}),
        lambda x: x["model"]["vocab"].update({"space ": 7, "!": 50}),
        lambda x: x["model"]["vocab"].update({"a hole": 60}),
        lambda x: x["added_tokens"].append(x["added_tokens"][0] | {"id": 50, "content": "<x>"}),
    ],
)
def test_no_vocabulary_is_exported_that_would_mean_something_else(change):
    parts = json.loads(pretrained.tokenizer_json(TINY))
    change(parts)
    files = tokenizer.files(json.dumps(parts), 16)
    assert files.keys() == {"tokenizer.json", "tokenizer_config.json"}
    assert json.loads(files["tokenizer_config.json"])["tokenizer_class"] == "PreTrainedTokenizerFast"


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "word", "char"])
def test_special_tokens_are_put_around_texts(kind):
    made = trained.train(["a good film, 很好"] * 9, kind, 50)
    files = tokenizer.files(made.to_json(), 16)
    assert files.keys() == {"tokenizer.json", "tokenizer_config.json"}
    again = trained.Tokenizer.from_json(files["tokenizer.json"])
    bare = made.encode(["a film"]).ids.tolist()
    assert again.encode(["a film"]).ids.tolist() == bare
    assert ids(files["tokenizer.json"], ["a film"]) == [[2, *bare, 3]]
    assert json.loads(files["tokenizer_config.json"])["tokenizer_class"] == "PreTrainedTokenizerFast"
