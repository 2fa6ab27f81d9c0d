"""Configs and flags: what is accepted works, what is wrong is said in one line."""

import dataclasses
import json
import re

import numpy as np
import pytest
from absl import flags

from tests.helpers.small import SmallConfig
from zoo import config as configs
from zoo import config_flags
from zoo.config import Config, setting
from zoo.errors import BadInput


@dataclasses.dataclass(frozen=True)
class Example(Config):
    epochs: float = setting(1.0, "Passes.", minimum=0, may_change=True)
    hidden: tuple[int, ...] = setting((64, 64), "Widths.", minimum=1)
    fast: bool = setting(False, "A switch.")
    kind: str = setting("a", "A choice.", choices=("a", "b"))


def parse(*arguments):
    """Parses a command line into an Example, with flags of its own."""
    values = flags.FlagValues()
    config_flags.define_flags(Example, "runs/example", values)
    values(["program", *arguments])
    return config_flags.from_flags(Example, values)


def test_defaults():
    assert parse() == Example()


def test_every_kind_of_flag():
    config = parse("--hidden=3,4,5", "--fast", "--kind=b", "--steps=7", "--weight_decay=0.5", "--seed=9")
    assert config == Example(epochs=0, steps=7, hidden=(3, 4, 5), fast=True, kind="b", weight_decay=0.5, seed=9)


def test_flag_file_repeats_the_config(tmp_path):
    config = parse("--hidden=3", "--fast", "--epochs=2.5", "--weight_decay=0.1", "--learning_rate=0.000123")
    (tmp_path / "flags.txt").write_text(config.flags())
    assert parse(f"--flagfile={tmp_path / 'flags.txt'}") == config


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"batch_size": 0}, "--batch_size is 0: expected >= 1"),
        ({"learning_rate": -1.0}, "--learning_rate is -1.0: expected >= 0"),
        ({"ema": 1.0}, "--ema is 1.0: expected < 1"),
        ({"l2": float("nan")}, "--l2 is nan: expected >= 0"),
        ({"clip_norm": float("inf")}, "--clip_norm is inf: expected a finite number"),
        ({"schedule": "cosin"}, "--schedule is 'cosin': did you mean cosine"),
        ({"steps": 5}, "--steps is 5 and --epochs is 1: expected one of the two"),
        ({"epochs": 0.0}, "neither --steps nor --epochs is set"),
        ({"hidden": (3, 0)}, "--hidden is 3,0: expected >= 1"),
        ({"cpu_devices": 1000}, "--cpu_devices is 1000: expected <= 64"),
    ],
)
def test_bad_values(values, said):
    with pytest.raises(BadInput, match=re.escape(said)):
        Example(**values)


def test_bad_list():
    with pytest.raises(BadInput, match="--hidden is '3,x': expected whole numbers"):
        parse("--hidden=3,x")


def test_differences_name_only_what_must_stay():
    saved = json.loads(json.dumps(configs.as_dict(Example())))
    changed = Example(seed=3, hidden=(5,), log_every=7, keep=9, steps_per_loop=3)
    assert configs.differences(saved, Example()) == []
    assert configs.differences(saved, changed) == ["--seed was 0, is 3", "--hidden was 64,64, is 5"]


def test_every_setting_has_a_help():
    for field in dataclasses.fields(SmallConfig):
        assert len(field.metadata["help"]) > 3


def test_numbers_in_json_are_exact():
    value = float(np.float32(0.1))
    assert json.loads(json.dumps({"x": value}))["x"] == value


@dataclasses.dataclass(frozen=True)
class Chosen(Example):
    """A config whose `build` chooses what is unset."""

    recipe: str = setting("auto", "Which.", choices=("auto", "plain", "new"), before="plain")
    epochs: float | None = setting(None, "Passes.", minimum=0, may_change=True)
    hidden: tuple[int, ...] | None = setting(None, "Widths.", minimum=1)
    fast: bool | None = setting(None, "A switch.")
    kind: str | None = setting(None, "A choice.", choices=("a", "b"))


def chosen(*arguments):
    values = flags.FlagValues()
    config_flags.define_flags(Chosen, "runs/example", values)
    values(["program", *arguments])
    return config_flags.from_flags(Chosen, values)


def test_unset_fields_are_filled_and_what_is_set_stays():
    filled = {"epochs": 9.0, "hidden": (5,), "fast": True, "kind": "b"}
    assert chosen().filled(**filled) == Chosen(**filled)
    assert chosen("--nofast", "--hidden=7").filled(**filled) == Chosen(**filled | {"hidden": (7,), "fast": False})
    assert chosen("--steps=3").filled(**filled).epochs == 0
    assert Chosen(steps=3).filled(**filled).epochs == 0
    with pytest.raises(BadInput, match="--kind is 'c'"):
        chosen().filled(kind="c")


def test_a_filled_config_repeats_from_its_flag_file(tmp_path):
    config = chosen("--hidden=3").filled(epochs=2.0, fast=False, kind="a")
    (tmp_path / "flags.txt").write_text(config.flags())
    assert chosen(f"--flagfile={tmp_path / 'flags.txt'}") == config


def test_records_older_than_a_field_have_the_value_of_then():
    saved = configs.as_dict(Chosen(recipe="plain", epochs=1.0))
    del saved["recipe"]
    old = configs.as_recorded(saved, Chosen(epochs=1.0))
    assert old.recipe == "plain" and configs.differences(saved, old) == []
    asked = configs.as_recorded(saved, Chosen(epochs=1.0, recipe="new"))
    assert configs.differences(saved, asked) == ["--recipe was plain, is new"]
