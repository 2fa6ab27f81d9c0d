"""What is trusted as a checkpoint: the right files, of this step, of this run; all else is passed over aloud."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.engine import checkpoints, manifest
from zoo.errors import BadInput, DamagedCheckpoints
from zoo.files import MOST_BYTES

RECORDED = Path(__file__).parents[1] / "fixtures" / "run_0.1.0" / "mlp" / "checkpoints"
RUN = "1f0c"


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of steps 20 and 40."""
    for step in (20, 40):
        checkpoints.save(tmp_path, step, {"model/kernel": np.full((3,), step, np.float32)}, {"window": {}}, RUN)
    return tmp_path


def rewrite(path, name, content):
    """Replaces a file of a checkpoint, with a manifest that agrees with it."""
    (path / name).write_bytes(content)
    manifest.write(path, int(path.name.removeprefix("step-")))


def restored(folder, **options):
    checkpoint, problems = checkpoints.restore(folder, run=RUN, **options)
    assert checkpoint.state["model/kernel"].tolist() == [checkpoint.step] * 3
    return checkpoint.step, problems


def test_a_checkpoint_says_what_it_is(folder):
    assert restored(folder) == (40, [])
    assert checkpoints.restore(folder)[0].record == {"window": {}, "checkpoint": {"step": 40, "run": RUN}}


# The last is sixty in Arabic digits, which Python reads as a number.
NAMES = ["step-00000060", "step-60", "step-0000000060", "step-00000040.bak", "step-", "step--0000060"]
NAMES += ["step-000000\u0666\u0660"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("made", [shutil.copytree, lambda old, new: os.symlink(old, new), os.rename])
def test_a_copy_under_another_name_is_passed_over_aloud(folder, name, made):
    made(folder / "step-00000040", folder / name)
    step, problems = restored(folder)
    assert step == (20 if made is os.rename else 40)
    assert len(problems) == 1 and (name in problems[0] or repr(name) in problems[0])
    if name == "step-00000060":
        assert problems == ["step-00000060: it is a copy or link of step-00000040, or was renamed"]


def test_a_manifest_that_follows_the_new_name_does_not_help(folder):
    """The step is under the checksum, too."""
    shutil.copytree(folder / "step-00000040", folder / "step-00000060")
    manifest.write(folder / "step-00000060", 60)
    assert restored(folder) == (40, ["step-00000060: it is a copy of step-00000040"])


def test_a_checkpoint_of_another_run_is_passed_over_aloud(folder):
    checkpoints.save(folder, 60, {"model/kernel": np.zeros((3,), np.float32)}, {}, "another")
    assert restored(folder) == (40, ["step-00000060: it belongs to another run"])
    assert checkpoints.restore(folder)[0].step == 60, "for --init_from any run will do"


def test_version_0_1_0_is_read_by_the_step_in_its_manifest(tmp_path):
    shutil.copytree(RECORDED, tmp_path / "runs")
    assert checkpoints.restore(tmp_path / "runs", run=RUN)[0].step == 4
    shutil.copytree(tmp_path / "runs" / "step-00000004", tmp_path / "runs" / "step-00000008")
    checkpoint, problems = checkpoints.restore(tmp_path / "runs", run=RUN)
    assert checkpoint.step == 4 and "step-00000008: it is a copy or link of step-00000004" in problems[0]


def test_only_strange_names_are_no_fresh_start(folder):
    for step in ("20", "40"):
        (folder / f"step-000000{step}").rename(folder / f"step-{step}")
    with pytest.raises(DamagedCheckpoints, match="'step-20': not the name of a checkpoint"):
        checkpoints.restore(folder, run=RUN)


def fifo(path):
    path.unlink()
    os.mkfifo(path)


def device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def folder_instead(path):
    path.unlink()
    path.mkdir()


def sparse(path):
    os.truncate(path, 1 << 50 if path.suffix == ".safetensors" else MOST_BYTES + 1)


def loop(path):
    path.unlink()
    path.symlink_to(path.name)


@pytest.mark.parametrize("name", ["manifest.json", "record.json", "state.safetensors"])
@pytest.mark.parametrize("damage", [fifo, device, folder_instead, sparse, loop, os.unlink])
def test_files_of_another_kind_are_damaged_and_do_not_hang(folder, name, damage):
    try:
        damage(folder / "step-00000040" / name)
    except OSError as error:
        pytest.skip(f"the file system refuses a file of this size: {error}")
    step, problems = restored(folder)
    assert step == 20 and len(problems) == 1 and problems[0].startswith("step-00000040: ")


DEEP = b"[" * 100_000
MANIFESTS = [
    b"", b"null", b"[]", b"{}", b"\xff", DEEP, b'{"format": 1}', b'{"format": 1, "files": []}',
    b'{"format": 1, "files": {}}',
    b'{"format": 1, "step": 40, "files": {"/dev/zero": {}}}', b'{"format": 1, "step": 40, "files": {"a\\u0000b": {}}}',
    b'{"format": 1, "step": 40, "files": {"../../x": {"bytes": 1}}}', b'{"format": 2, "step": 40, "files": {}}',
    b'{"format": 1, "step": 40, "files": {"record.json": null, "state.safetensors": []}}',
    b'{"format": 1, "step": "40", "files": {"record.json": 1, "state.safetensors": 1}}',
    b'{"format": 1, "step": true, "files": {"record.json": 1, "state.safetensors": 1}}',
    b'{"format": 1, "step": 1e999, "files": {"record.json": 1, "state.safetensors": 1}}',
    b'{"format": 1, "step": 10000000000000000000000000, "files": {"record.json": 1, "state.safetensors": 1}}',
]  # fmt: skip


@pytest.mark.parametrize("content", MANIFESTS)
def test_manifests_that_parse_and_are_none(folder, content):
    (folder / "step-00000040" / "manifest.json").write_bytes(content)
    assert restored(folder)[0] == 20


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"3", DEEP, b'{"checkpoint": 3}', b'{"checkpoint": {"step": null}}']
)
def test_records_that_parse_and_are_none(folder, content):
    rewrite(folder / "step-00000040", "record.json", content)
    assert restored(folder)[0] == 20


def header(text, length=None):
    return (len(text) if length is None else length).to_bytes(8, "little") + text


STATES = [
    b"", b"\0" * 8, header(b"{}", 2**63), header(b"{}", 2**64 - 1), header(DEEP), header(b"null"), header(b'{"x": 1}'),
    header(b'{"x": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4]}}') + b"\0" * 4,
    header(b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}') + b"\0" * 8,
    header(b'{"x": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}') + b"\0" * 4,
    header(b'{"x": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}') + b"\0" * 4,
]  # fmt: skip


@pytest.mark.parametrize("content", STATES)
def test_states_with_an_absurd_header(folder, content):
    rewrite(folder / "step-00000040", "state.safetensors", content)
    assert restored(folder)[0] == 20


KEYS = st.sampled_from(["format", "step", "files", "checkpoint", "run", "record.json", "bytes"]) | st.text()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(KEYS, each),
    max_leaves=5,
)


@settings(max_examples=50)
@given(content=JSON)
def test_any_json_is_a_problem_and_no_traceback(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "any" / "step-00000040"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (manifest.STATE, manifest.RECORD, manifest.MANIFEST):
        (folder / name).write_text(json.dumps(content))
    assert manifest.problem(folder, RUN)
    # Under a manifest that agrees, the record or at the latest the state is not one.
    manifest.write(folder, 40)
    with pytest.raises(DamagedCheckpoints):
        checkpoints.restore(folder.parent, run=RUN)


def denied(monkeypatch, denied_path):
    real = os.open

    def refuse(path, *rest, **named):
        if str(path).startswith(str(denied_path)):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **named)

    monkeypatch.setattr(os, "open", refuse)


@pytest.mark.parametrize("name", ["manifest.json", "record.json", "state.safetensors"])
def test_no_permission_is_refused_and_no_older_one_taken(folder, name, monkeypatch):
    denied(monkeypatch, folder / "step-00000040" / name)
    with pytest.raises(BadInput, match=r"step-00000040 cannot be read \(Permission denied\): give this user"):
        checkpoints.restore(folder, run=RUN)


def test_a_folder_that_cannot_be_listed_is_no_fresh_start(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(BadInput, match="cannot be read: Permission denied"):
        checkpoints.restore(folder, run=RUN)


@pytest.mark.parametrize("code", ["EIO", "ESTALE", "EBUSY", "EXDEV"])
def test_pruning_that_fails_is_said_and_loses_nothing(folder, code, monkeypatch):
    def fail(self, target):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(Path, "rename", fail)
    lines = checkpoints.prune(folder, 40, 1)
    assert lines == [
        f"step-00000020: an old one, cannot be removed ({os.strerror(getattr(errno, code))}); the run goes on"
    ]
    assert restored(folder) == (40, [])


def test_pruning_counts_no_checkpoint_that_is_ahead(folder):
    for step in ("60", "80"):
        shutil.copytree(folder / "step-00000040", folder / f"step-000000{step}")
    assert checkpoints.prune(folder, 40, 1) == []
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000040", "step-00000060", "step-00000080"]
    assert restored(folder)[0] == 40


def test_remains_are_links_too(folder):
    (folder / ".partial-00000060-1").symlink_to(folder / "step-00000040")
    assert checkpoints.clean(folder) == [".partial-00000060-1: left by an unfinished save, removed"]
    assert restored(folder) == (40, [])
