"""The workdir of a run: its lock, its files by name, and run.json, the record that decides whether it may resume."""

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo import config as configs
from zoo import files
from zoo.errors import BadInput

CHECKPOINTS = "checkpoints"
MODEL = "model.keras"
ABOUT = "model.json"
TOKENIZER = "tokenizer.json"
RESULT = "result.json"
# In the folder of each test set.
CONFUSION = "confusion.csv"
FLAGS = "flags.txt"
RUN = "run.json"


@dataclasses.dataclass(frozen=True)
class Run:
    """The record of a run, run.json.

    Attributes:
        config: flag values by name.
        identity: facts beside the config that must not change: data, model, length of the schedule.
        folder: current folder of the training command.
    """

    config: Mapping[str, Any]
    identity: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    folder: str = "."

    def path(self, name: str) -> Path:
        """A path of the config: as it was typed, in the folder where it was typed."""
        return Path(self.folder, Path(self.config.get(name) or "").expanduser())


@contextlib.contextmanager
def owned(workdir: Path) -> Iterator[None]:
    """Locks the folder for this process, and creates it if it is missing; the kernel unlocks it on any death.

    Raises:
        BadInput: the path is not a folder, cannot be written, or another process trains in it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(workdir / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BadInput(f"--workdir {workdir} cannot be written: {error.strerror}; choose another folder") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise BadInput(f"--workdir {workdir} is in use by another run; wait for it or choose another folder") from None
    try:
        yield
    finally:
        os.close(descriptor)


def compare(workdir: Path, config: configs.Config, identity: Mapping[str, Any]) -> bool:
    """Compares a run with the record in its folder; writes nothing.

    Args:
        workdir: folder of the run.
        config: config of the run that is about to start.
        identity: what must not change besides the config; see `Run`.

    Returns:
        Whether the folder holds this run already.

    Raises:
        BadInput: the folder belongs to a run that differs; names each field.
    """
    path, has_checkpoints = workdir / RUN, any((workdir / CHECKPOINTS).glob("step-*"))
    if not path.exists():
        if has_checkpoints:
            raise BadInput(
                f"{workdir} has checkpoints but no {RUN}, so whose they are is unknown; choose another --workdir"
            )
        return False
    try:
        saved = json.loads(path.read_text(encoding="utf8"))
        wrong = configs.differences(_renamed(saved["config"]), config)
        wrong += [
            f"{name} was {saved['identity'].get(name)}, is {value}"
            for name, value in identity.items()
            if saved["identity"].get(name) != value
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} cannot be read ({error}); restore it or choose another --workdir") from None
    # A run that was stopped before its first checkpoint has nothing to lose.
    if wrong and has_checkpoints:
        raise BadInput(f"--workdir {workdir} belongs to another run: {'; '.join(wrong)}; choose another --workdir")
    return True


def as_recorded(workdir: Path, config: configs.Config) -> configs.Config:
    """The config, as the folder's run means it where it was recorded before some of the fields existed."""
    try:
        saved = json.loads((workdir / RUN).read_text(encoding="utf8"))["config"]
        if _has_old_test_file(saved) and config.eval_file == saved["eval_file"] and not config.test_file:
            # The same command as then.
            config = config.replace(eval_file="", test_file=config.eval_file)
        return configs.as_recorded(saved, config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # A new folder; or a damaged record, which `compare` refuses.
        return config


def claim(workdir: Path, config: configs.Config, identity: Mapping[str, Any]) -> None:
    """Writes the run's record and flagfile, and removes the partial files of killed runs."""
    for path in (*workdir.glob(".partial-*.keras"), *workdir.glob(".*.partial")):
        path.unlink()
    # The current folder, because a path in the config is kept as it was typed.
    run = Run(configs.as_dict(config), dict(identity), os.getcwd())
    files.write(workdir / RUN, json.dumps(dataclasses.asdict(run), indent=1) + "\n")
    files.write(workdir / FLAGS, config.flags() + f"--workdir={workdir}\n")


def read_run(workdir: str | Path, config_required: bool = True) -> Run:
    """Reads the record of a run.

    Args:
        workdir: folder of the run.
        config_required: whether a record without a config is an error; else its config is empty.

    Raises:
        BadInput: the folder or the file is missing, torn, or holds no config.
    """
    workdir = files.absolute(workdir)
    saved = read_json(workdir, RUN)
    if isinstance(saved, dict) and isinstance(saved.get("config"), dict):
        return Run(_renamed(saved["config"]), saved.get("identity", {}), saved.get("folder", "."))
    if config_required:
        raise BadInput(f"{workdir / RUN} holds no config; restore it or train again")
    return Run({})


def _renamed(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of a record by the flags' names of today."""
    if _has_old_test_file(config):
        return {**config, "eval_file": "", "test_file": config["eval_file"]}
    return config


def _has_old_test_file(config: Mapping[str, Any]) -> bool:
    """Whether `--eval_file` is the test file: in runs on texts of 0.1.0, which had no `--test_file`."""
    return bool(config.get("eval_file")) and "test_file" not in config


def read_json(workdir: Path, name: str) -> dict[str, Any]:
    """Reads a JSON file of a finished run.

    Raises:
        BadInput: the folder or the file is missing, or the file is torn.
    """
    path = workdir / name
    if not workdir.is_dir():
        raise BadInput(f"{workdir} is not a folder: expected the --workdir of a finished run")
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        raise BadInput(f"{workdir} has no {name}: expected the --workdir of a finished run") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
