"""An experiment by the name of its module, and its config from the words of a command line."""

import dataclasses
import difflib
import importlib
import importlib.util
import inspect
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from absl import flags

from zoo import config_flags
from zoo.config import Config
from zoo.errors import BadInput

# Flags of the sweep itself: one that is misspelt comes here.
_SWEEP = ("space", "sampler", "pruner", "trials", "seconds", "sampler_seed", "workdir", "json")
# Of a trial: it is judged by, and tested with, the weights that its metric chose; disks hold many trials.
_DEFAULTS = ("--export=best", "--keep=1")


class ExperimentModule(NamedTuple):
    """What a sweep needs of an experiment.

    Attributes:
        build: its `build(config)`.
        config_class: its config.
    """

    build: Callable[[Any], Any]
    config_class: type[Config]

    def config(self, words: Sequence[str]) -> Config:
        """The config of a command line, with a trial's defaults.

        Raises:
            BadInput: a flag is unknown or has a wrong value.
        """
        values = flags.FlagValues()
        config_flags.define_flags(self.config_class, "", values)
        try:
            rest = values([sys.argv[0], *_DEFAULTS, *words])
        except flags.UnrecognizedFlagError as error:
            known = [*config_flags.kinds(self.config_class), *aliases(self.config_class), *_SWEEP]
            raise BadInput(f"--{error.flagname} is not a flag: {_suggestion(error.flagname, known)}") from None
        except (flags.Error, OSError, UnicodeDecodeError) as error:
            message = str(error).splitlines()[0].removeprefix("FATAL Flags parsing error:").strip()
            raise BadInput(message) from None
        if len(rest) > 1:
            raise BadInput(f"argument {rest[1]!r} is not a flag: expected --name=value")
        return config_flags.from_flags(self.config_class, values)


def load(name: str) -> ExperimentModule:
    """The experiment of a module or a file.

    Args:
        name: module, such as "experiments.mlp_classifier", or path of a .py file.

    Raises:
        BadInput: there is no such module, or it has no `build` and config.
    """
    module = _from_file(Path(name)) if name.endswith(".py") else _imported(name)
    build = getattr(module, "build", None)
    if not callable(build):
        raise BadInput(f"{name} has no function build(config): expected an experiment's module")
    return ExperimentModule(build, _config_class(name, module, build))


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise BadInput(
            f"there is no module {name!r}: expected one such as experiments.mlp_classifier, or a .py file"
        ) from None
    except (ValueError, TypeError) as error:
        raise BadInput(f"{name!r} is not the name of a module ({error})") from None


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise BadInput(f"{path} is not a file: expected an experiment's .py file, or a module's name")
    sys.path.insert(0, str(path.parent.absolute()))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _config_class(name: str, module: ModuleType, build: Callable) -> type[Config]:
    """The type of `build`'s argument, else the only config that the module defines."""
    first = next(iter(inspect.signature(build).parameters), None)
    hint = typing.get_type_hints(build).get(first)
    if inspect.isclass(hint) and issubclass(hint, Config):
        return hint
    own = [
        each
        for each in vars(module).values()
        if inspect.isclass(each) and issubclass(each, Config) and each.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise BadInput(f"{name}: build(config) does not say its config's type: expected build(config: MyConfig)")
    return own[0]


def _suggestion(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    return f"did you mean --{' or --'.join(near)}?" if near else "the experiment's --help lists its flags"


def aliases(config_class: type[Config]) -> dict[str, str]:
    """Names of flags by their second names."""
    fields = dataclasses.fields(config_class)
    return {field.metadata["alias"]: field.name for field in fields if field.metadata.get("alias")}
