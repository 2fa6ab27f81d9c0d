"""How a command ends: one line and an exit code for whatever goes wrong in it."""

import errno
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo import failures, strict_json
from zoo.cli import evaluate, main
from zoo.errors import BadInput, NonFinite


def raising(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (BadInput("x is y"), 2, "it: x is y\n"),
        (NonFinite("loss"), 3, "it: loss\n"),
        (BadInput("a\nb\x1b[31m\u202e"), 2, "it: a\\nb\\x1b[31m\\u202e\n"),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), 2, "it: a/b: Permission denied\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "it: No space left on device: a file or stdout\n"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 5000), 2, f"it: {'x' * 255}…: File name too long\n"),
        (KeyError("gone"), 1, "it: unexpected KeyError: 'gone' (tests/test_failures.py"),
        (OSError("Unable to open file"), 1, "it: unexpected OSError: Unable to open file ("),
        (MemoryError(), 1, "it: unexpected MemoryError: not enough memory ("),
        (RecursionError("deep"), 1, "it: unexpected RecursionError: deep ("),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
    ],
)
def test_an_error_is_one_line(error, code, said, capsys, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    assert failures.reported("it", raising(error)) == code
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith(said) and captured.err.count("\n") == bool(said)


def test_traceback_shows_the_rest(capsys):
    assert failures.reported("it", raising(KeyError("gone")), full=True) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):" and lines[-1].startswith("it: unexpected KeyError: 'gone'")


def test_a_closed_stderr_does_not_change_the_code(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stderr", Closed())
    assert failures.reported("it", raising(BadInput("x"))) == 2


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_stream_is_the_null_device(closed, tmp_path):
    """What is opened next must not take the number of the stream."""
    (tmp_path / "file").touch()
    code = "from zoo.cli import main; code = main.main(['evaluate', 'none']); file = open('file', 'w'); print('x'); "
    code += "file.close(); raise SystemExit(code)"
    words = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} {closed}"
    environment = os.environ | {"PYTHONPATH": str(Path(failures.__file__).parents[1])}
    done = subprocess.run(["bash", "-c", words], cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert done.returncode == 2 and (tmp_path / "file").read_bytes() == b""
    said = b"zoo: none is not a folder: expected the --workdir of a finished run\n"
    assert (done.stdout, done.stderr) == (b"" if "1>" in closed else b"x\n", b"" if "2>" in closed else said)


@pytest.mark.parametrize("words", ["evaluate run", "--traceback evaluate run", "evaluate run --traceback"])
def test_any_command_reports_what_nobody_expected(words, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "require_run", lambda workdir: {}["no such key"])
    assert main.main(words.split()) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("zoo: unexpected KeyError: 'no such key' (")
    assert (len(lines) > 1) == ("--traceback" in words)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--batch=3", "--batch_size=4"], 2, "zoo predict: --batch and --batch_size are two names of one flag"),
        (["--top=3", "--top=4"], 2, "zoo predict: --top is given more than once: the last one counts, 4\nzoo: "),
        (["--budget_seconds=nan"], 2, "zoo predict: argument --budget_seconds: 'nan' is not a number of 0 or more"),
        (
            ["--top=" + "9" * 5000],
            2,
            f"zoo predict: argument --top: '{'9' * 30}' is not a whole number of 1 or more, b",
        ),
        (["--top=3", "--top=3", "--text=a", "--text=b"], 2, "zoo: none is not a folder"),
    ],
)
def test_a_flag_given_twice_or_wrong(words, code, said, capsys):
    try:
        found = main.main(["predict", "none", "x.npy", *words])
    except SystemExit as stop:
        found = stop.code
    assert found == code and capsys.readouterr().err.startswith(said)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(LEAVES, lambda each: st.lists(each) | st.dictionaries(st.text(), each), max_leaves=9)


@settings(max_examples=40)
@given(JSON)
def test_json_is_json(value):
    def refuse(constant):
        raise AssertionError(constant)

    text = strict_json.dumps(value)
    again = json.loads(text, parse_constant=refuse)
    assert "\n" not in text and strict_json.dumps(again) == text
    if "nan" not in repr(value) and "inf" not in repr(value):
        assert again == value
