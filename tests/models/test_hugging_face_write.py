"""Exports: read back bitwise, whole or not there, and nothing else lost."""

import dataclasses
import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import bert_folders as folders
from tests.helpers.bert_folders import TINY
from zoo.data.text import tokenizer
from zoo.errors import BadInput
from zoo.models.hugging_face import folder as pretrained
from zoo.models.hugging_face import weight_names

FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]
HEADS = st.sets(st.sampled_from(sorted(weight_names.HEADS)))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def definition(vocabulary=50) -> str:
    return tokenizer.train(["a good film, 这本书很好"] * 9, "wordpiece", vocabulary).to_json()


def test_a_round_trip_is_bitwise(tmp_path):
    model = pretrained.read(TINY)
    pretrained.write(tmp_path / "new" / "one", model)
    again = pretrained.read(tmp_path / "new" / "one")
    assert folders.same(again, model)
    assert sorted(content(tmp_path / "new" / "one")) == FILES and len(list((tmp_path / "new").iterdir())) == 1
    pretrained.write(tmp_path / "two", again)
    assert content(tmp_path / "two") == content(tmp_path / "new" / "one")
    theirs, ours = folders.unpacked(), folders.unpacked(tmp_path / "two" / "model.safetensors")
    assert folders.equal(theirs, ours)


@settings(max_examples=40, deadline=None)
@given(HEADS, st.integers(1, 3), st.integers(1, 2), st.integers(1, 5), st.sampled_from(["gelu", "gelu_new", "relu"]))
def test_models_made_here(tmp_path_factory, heads, layers, attention, classes, activation):
    shape = pretrained.Shape(
        60, 3 * attention, layers, attention, 7, 9, activation=activation, epsilon=1e-5, dropout=0.0
    )
    model = folders.made(shape, heads, classes)
    folder = tmp_path_factory.mktemp("made") / "x"
    pretrained.write(folder, model, definition())
    assert folders.same(pretrained.read(folder), model)
    assert pretrained.tokenizer_json(folder) == (folder / "tokenizer.json").read_text(encoding="utf8")


def test_weights_may_be_views_and_of_other_floats(tmp_path):
    """What a model gives is often transposed; safetensors would write the memory as it lies."""
    model = pretrained.read(TINY)
    views = {name: np.asarray(np.asfortranarray(x), np.float64) for name, x in model.weights.items()}
    pretrained.write(tmp_path / "x", model._replace(weights=views))
    assert folders.same(pretrained.read(tmp_path / "x"), model)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.weights.pop("block1/inner/bias"), "does not fit its shape and labels: block1/inner/bias: m"),
        (lambda x: x.weights.update({"block2/x": np.ones(1)}), "block2/x: unexpected (1 in all)"),
        (lambda x: x.extra.update({"next/bias": np.ones(3)}), "next/bias: shape (3,), expected (2,)"),
        (lambda x: x.extra.update({"pooler/bias": np.full(8, np.inf)}), "pooler/bias: has numbers that are not finite"),
        (lambda x: x._replace(labels=("a", "b")), "head/bias: shape (3,), expected (2,); head/kernel: shape"),
        (lambda x: x._replace(shape=dataclasses.replace(x.shape, heads=3)), "config.json: hidden_size is 8, num_att"),
        (lambda x: x._replace(shape=dataclasses.replace(x.shape, activation="tanh")), "hidden_act is 'tanh'; expected"),
    ],
)  # fmt: skip
def test_what_does_not_fit(tmp_path, change, said):
    model = folders.made(pretrained.Shape(50, 8, 2, 2, 12, 16), weight_names.HEADS)
    changed = change(model)
    with pytest.raises(BadInput) as error:
        pretrained.write(tmp_path / "x", changed if isinstance(changed, pretrained.Pretrained) else model, definition())
    assert said in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "has no tokenizer; expected the text of a tokenizer.json"),
        ("{}", "tokenizer.json is not a tokenizer.json"),
        (definition(50), "tokenizer.json has the id .*, the embedding has 9 rows"),
    ],
)
def test_tokenizers_that_do_not_fit(tmp_path, text, said):
    with pytest.raises(BadInput, match=said):
        pretrained.write(tmp_path / "x", folders.made(pretrained.Shape(9, 8, 2, 2, 12, 16)), text)


def test_an_earlier_export_is_replaced_and_nothing_else(tmp_path):
    one, two = (folders.made(pretrained.Shape(50, 8, 2, 2, 12, 16), seed=seed) for seed in (1, 2))
    (tmp_path / "empty").mkdir()
    pretrained.write(tmp_path / "empty", one, definition())
    pretrained.write(tmp_path / "empty", two, definition())
    assert folders.same(pretrained.read(tmp_path / "empty"), two)
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    pretrained.write(tmp_path / "link", one, definition())
    assert (tmp_path / "link").is_symlink() and folders.same(pretrained.read(tmp_path / "empty"), one)
    (tmp_path / "empty" / "diary.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = content(tmp_path / "empty")
    for place, said in (
        (tmp_path / "empty", "has 'diary.txt' in it; expected a new folder"),
        (tmp_path / "file", "is a f"),
    ):
        with pytest.raises(BadInput, match=said):
            pretrained.write(place, two, definition())
    assert content(tmp_path / "empty") == before and len(list(tmp_path.iterdir())) == 3


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    one, two = (folders.made(pretrained.Shape(50, 8, 2, 2, 12, 16), seed=seed) for seed in (1, 2))
    pretrained.write(tmp_path / "x", one, definition())
    rename = Path.rename

    def full(path, target):
        if path.name.endswith("-old") or target.name.endswith("-old"):
            return rename(path, target)
        raise OSError(errno.ENOSPC, "No space left on device")

    for name, broken in (("write_bytes", lambda *_: full(Path("x"), Path("y"))), ("rename", full)):
        with monkeypatch.context() as patch, pytest.raises(BadInput, match=r"cannot be written: .*No space left"):
            patch.setattr(Path, name, broken)
            pretrained.write(tmp_path / "x", two, definition())
        assert folders.same(pretrained.read(tmp_path / "x"), one) and len(list(tmp_path.iterdir())) == 1


_KILLED = """
import json, os, sys
from pathlib import Path
from tests.helpers import bert_folders as folders
from zoo.models.hugging_face import folder as pretrained

place, definition = Path(sys.argv[1]) / "x", sys.stdin.read()
one, two = (folders.made(pretrained.Shape(50, 8, 2, 2, 12, 16), seed=seed) for seed in (1, 2))

def killing(function, left):
    def call(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        return function(*arguments, **options)
    return call

def kill_at(step):
    left = [step]
    os.fsync, Path.rename = killing(os.fsync, left), killing(Path.rename, left)
    Path.write_bytes, pretrained.save_file = killing(Path.write_bytes, left), killing(pretrained.save_file, left)
    pretrained.write(place, two, definition)

seen = []
for step in range(100):
    pretrained.write(place, one, definition)
    child = os.fork()
    if child == 0:
        kill_at(step)
        os._exit(0)
    done = os.waitpid(child, 0)[1] == 0
    old = [path for path in place.parent.iterdir() if path.name.endswith("-old")]
    found = pretrained.read(place if place.exists() else old[0])
    seen.append("new" if folders.same(found, two) else "old" if folders.same(found, one) else "half")
    seen[-1] += "" if place.exists() else " aside"
    if done:
        break
print(json.dumps([seen, [path.name for path in place.parent.iterdir()]]))
"""


def test_a_kill_at_any_step_leaves_a_whole_folder(tmp_path):
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _KILLED, tmp_path], input=definition(), capture_output=True, text=True,
        timeout=60, check=False, env={"PYTHONPATH": str(root), "TOKENIZERS_PARALLELISM": "false"},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    seen, left = json.loads(found.stdout)
    assert len(seen) >= 12 and set(seen) == {"old", "old aside", "new"} and seen.count("old aside") == 1
    assert seen == sorted(seen, key=["old", "old aside", "new"].index) and left == ["x"]
