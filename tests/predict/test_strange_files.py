"""Files of a run or a model that are no files, have no end, or cannot be parsed: one line, at once."""

import os
import struct

import pytest

from tests.helpers import bert_folders
from zoo.adaptation import state_file
from zoo.data.text import tokenizer
from zoo.errors import BadInput
from zoo.models.hugging_face import config, tensors
from zoo.models.hugging_face import tokenizer as bert_tokenizer
from zoo.predict.predictors import litert
from zoo.predict.predictors.loading import load, read_model
from zoo.tensorboard import run_comparison
from zoo.workdir import read_run

DEEP = b'{"a":' * 100_000
NESTED = b'{"format": 1, "model": "m", "kept": ' + b"[" * 600 + b"]" * 600 + b"}"


def endless(path):
    path.symlink_to("/dev/zero")


def pipe(path):
    os.mkfifo(path)


def folder(path):
    path.mkdir()


def holding(content):
    return lambda path: path.write_bytes(content)


STRANGE = {
    "endless": endless,
    "pipe": pipe,
    "folder": folder,
    "NUL": holding(b"\0" * 100),
    "not UTF-8": holding(b"\xff\xfe\xff"),
    "deep": holding(DEEP),
    "torn": holding(b'{"a": 1'),
    "a number": holding(b"1"),
    "a number too large": holding(b"9" * 5000),
    "wrong types": holding(b'{"format": [], "config": 1, "model_type": {}, "classes": 3, "largest": [], "kept": 2}'),
    "infinite": holding(b'{"largest": 1' + b"0" * 400 + b', "classes": ["a"]}'),
    "a header of 2^62 bytes": holding(struct.pack("<Q", 1 << 62) + b"{}"),
    "a header without its tensors": holding(
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'.ljust(60)
    ),
}
READERS = {
    "tokenizer.json": lambda path: tokenizer.load(path),
    "config.json": lambda path: config.shape_of(config.read(path.parent), path),
    "state.json": lambda path: state_file.read(path, "m"),
    "model.json": lambda path: load(path.parent),
    "run.json": lambda path: read_run(path.parent),
    "model.keras": lambda path: read_model(path),
    "model.safetensors": lambda path: tensors.read(path.parent),
}


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("name", READERS)
def test_each_file_of_each_kind(tmp_path, name, strange):
    STRANGE[strange](tmp_path / name)
    with pytest.raises(BadInput) as error:
        READERS[name](tmp_path / name)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_a_state_that_nests_deeper_than_it_is_written(tmp_path):
    (tmp_path / "state.json").write_bytes(NESTED)
    with pytest.raises(BadInput, match=r"state\.json is not a state file of --refine, or is damaged"):
        state_file.read(tmp_path / "state.json", "m")


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "vocab.txt"])
def test_the_tokenizer_of_a_bert_folder(tmp_path, name, strange):
    copy = bert_folders.copy(tmp_path / "bert")
    (copy / name).unlink(missing_ok=True)
    if name == "vocab.txt":
        (copy / "tokenizer.json").unlink(missing_ok=True)
    STRANGE[strange](copy / name)
    is_passed_over = strange in ("endless", "pipe", "folder") and name != "tokenizer_config.json"
    is_fine = name == "tokenizer_config.json" and strange in ("wrong types", "infinite")
    is_words = name == "vocab.txt"
    try:
        bert_tokenizer.tokenizer_json(copy)
    except BadInput as error:
        assert str(copy) in str(error)
    else:
        assert is_passed_over or is_fine or is_words


@pytest.mark.parametrize("strange", STRANGE)
def test_records_that_are_optional(tmp_path, strange):
    path = tmp_path / "record.json"
    STRANGE[strange](path)
    assert litert._kept(path) == (None, 0.0)
    assert isinstance(run_comparison._read(path), dict)
