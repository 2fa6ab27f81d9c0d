"""The flags of a config: one absl flag per field."""

import dataclasses
import sys
import types
import typing
from collections.abc import Sequence
from typing import Any

from absl import flags

from zoo.config import Config
from zoo.errors import BadInput


def define_flags(config_class: type[Config], workdir: str, values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines an absl flag for each field, and `--workdir`, as flags of the program that runs (for `--help`)."""
    description = "Folder of the run: checkpoints, TensorBoard, model. A stopped run continues there."
    definitions = [_flag("workdir", str, workdir, description, ())]
    for field, kind in _typed_fields(config_class):
        definitions.append(
            _flag(field.name, kind, field.default, field.metadata.get("help", ""), field.metadata.get("choices", ()))
        )
    for flag in definitions:
        flags.DEFINE_flag(flag, values, module_name=sys.argv[0])
    for field, _ in _typed_fields(config_class):
        if field.metadata.get("alias"):
            flags.DEFINE_alias(field.metadata["alias"], field.name, values, module_name=sys.argv[0])


def from_flags(config_class: type[Config], values: flags.FlagValues = flags.FLAGS) -> Config:
    """Makes a config from parsed flags.

    `--steps` on the command line replaces a default number of epochs, and the other way round.

    Raises:
        BadInput: a value out of its range, or two that contradict each other.
    """
    fields = {}
    for field, kind in _typed_fields(config_class):
        value = values[field.name].value
        fields[field.name] = _whole_numbers(field.name, value) if kind is tuple and value is not None else value
    for flag, alternative in (("steps", "epochs"), ("epochs", "steps")):
        if values[flag].present and not values[alternative].present:
            fields[alternative] = 0
    return config_class(**fields)


def kinds(config_class: type[Config]) -> dict[str, type]:
    """The type of each flag by its name: int, float, bool, str or tuple."""
    return {field.name: kind for field, kind in _typed_fields(config_class)}


def _typed_fields(config_class: type[Config]):
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        hint = hints[field.name]
        if isinstance(hint, types.UnionType):
            hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
        yield field, typing.get_origin(hint) or hint


def _flag(name: str, kind: type, default: Any, description: str, choices: Sequence[str]) -> flags.Flag:
    if kind is bool:
        return flags.BooleanFlag(name, default, description)
    if choices:
        return flags.EnumFlag(name, default, description, list(choices))
    if kind is tuple:
        texts = None if default is None else [str(item) for item in default]
        return flags.Flag(flags.ListParser(), flags.CsvListSerializer(","), name, texts, description)
    parser = {int: flags.IntegerParser, float: flags.FloatParser}.get(kind, flags.ArgumentParser)()
    return flags.Flag(parser, flags.ArgumentSerializer(), name, default, description)


def _whole_numbers(name: str, texts: Sequence[str]) -> tuple[int, ...]:
    try:
        return tuple(int(text) for text in texts if text != "")
    except ValueError:
        raise BadInput(f"--{name} is {','.join(texts)!r}: expected whole numbers with commas, like 64,64") from None
