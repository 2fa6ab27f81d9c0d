"""The command line of an experiment: flags given twice, flag files, and values that no run can keep."""

import dataclasses
import re

import pytest
from absl import flags

from zoo import config_flags
from zoo.config import Config, setting
from zoo.errors import BadInput
from zoo.training import flag_parsing


@dataclasses.dataclass(frozen=True)
class Example(Config):
    epochs: float = setting(1.0, "Passes.", minimum=0, may_change=True)
    context: int = setting(64, "Tokens.", minimum=1, alias="max_length")
    name: str = setting("", "A name.")
    fast: bool = setting(False, "A switch.")
    hidden: tuple[int, ...] = setting((64, 64), "Widths.", minimum=1)


@pytest.mark.parametrize(
    "words",
    [
        ["--context=3", "--max_length=3"],
        ["--max_length", "3", "--context", "4"],
        ["-context=3", "--seed=1", "--max_length=4"],
        ["--fast", "--context=3", "--nograph", "--max_length=4"],
    ],
)
def test_two_names_of_one_flag_are_refused(words):
    with pytest.raises(BadInput, match=r"--(context and --max_length|max_length and --context) are two names of one"):
        flag_parsing.repeated(words, Example)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed=1", "--seed=1"], []),
        (["--context=3", "--flagfile=a", "--flagfile=b"], []),
        (["--name=--seed=2", "--seed=3"], []),
        (["--seed", "1", "--", "--seed=3"], []),
        (["--name", "--context", "--max_length=3"], []),
        (["--fast", "--fast"], []),
        (["--seed=1", "--steps=3", "--seed=2"], ["--seed is given 2 times ('1', '2'): the last one counts, '2'"]),
        (["--fast", "--nofast"], ["--fast is given 2 times ('True', 'False'): the last one counts, 'False'"]),
    ],
)
def test_a_flag_given_twice_is_said(words, said):
    assert flag_parsing.repeated(words, Example) == said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "not a file"),
        (b"--name=\xff\xfe\n", "--flagfile cannot be read: 'utf-8' codec can't decode byte"),
        (b"--flagfile=flags.txt\n--seed=x\n", "seed"),
        ("missing", "flags.txt"),
    ],
)
def test_a_bad_flag_file_is_one_line(content, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if content is None:
        (tmp_path / "flags.txt").mkdir()
    elif content != "missing":
        (tmp_path / "flags.txt").write_bytes(content)
    values = flags.FlagValues()
    config_flags.define_flags(Example, "run", values)
    monkeypatch.setattr(flag_parsing.flags, "FLAGS", values)
    with pytest.raises(SystemExit) as stop:
        flag_parsing.parse(["program", "--flagfile=flags.txt"], Example)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "Traceback" not in error and said in error.splitlines()[-1]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "a\0b"}, "--name is 'a\\x00b': it holds a NUL character"),
        ({"name": "a\nb"}, "--name is 'a\\nb': it holds a line break"),
        ({"name": "caf\udce9"}, "--name is 'caf\\udce9': it is not valid UTF-8"),
        ({"name": "x" * 5000}, f"--name is '{'x' * 58}…: it has 5,000 characters, expected at most 4,096"),
        ({"schedule": "x" * 5000}, f"--schedule is '{'x' * 58}…: expected one of constant"),
        ({"batch_size": 10**20}, "expected a number of 64 bits, at most 9223372036854775807"),
        ({"keep": 10**400}, "--keep is 1000"),
        ({"hidden": (1,) * 999 + (0,)}, "--hidden is 1,1,"),
        ({"seed": 2**32}, "--seed is 4294967296: expected <= 4294967295"),
        ({"profile": f"1:{10**30}"}, "--profile is '1:1000000000000000000000000000000': expected FIRST:LAST"),
    ],
)
def test_values_that_no_run_can_keep(values, said):
    with pytest.raises(BadInput, match=re.escape(said)) as error:
        Example(**values)
    assert len(str(error.value)) < 300 and str(error.value).isprintable()
