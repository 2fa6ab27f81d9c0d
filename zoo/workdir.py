"""The workdir of a run: its lock, its files by name, and run.json, the record that decides whether it may resume."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo import config as configs
from zoo import files
from zoo.errors import BadInput, DamagedCheckpoints

CHECKPOINTS = "checkpoints"
MODEL = "model.keras"
ABOUT = "model.json"
TOKENIZER = "tokenizer.json"
WEIGHTS = "weights.safetensors"
RESCUED = "rescued.safetensors"
RESULT = "result.json"
# In the folder of each test set.
CONFUSION = "confusion.csv"
FLAGS = "flags.txt"
RUN = "run.json"
# What --controller has seen and decided, and the flags that repeat the run without it.
DECISIONS = "decisions.jsonl"
CONTROLLED_FLAGS = "controlled_flags.txt"
# In the folder of several runs, see `zoo.training.several_runs`.
RUNS = "runs.json"
# In the folder of a sweep, see `zoo.studies.sweep`: its trials, and TensorBoard's table of them.
SWEEP = "sweep.json"
SWEEP_TABLE = "tensorboard"


@dataclasses.dataclass(frozen=True)
class Run:
    """The record of a run, run.json.

    Attributes:
        config: flag values by name.
        identity: facts beside the config that must not change: data, model, length of the schedule.
        folder: current folder of the training command.
        id: name of the run in its checkpoints, a hash of what must not change; empty in runs of version 0.1.0.
        has_saved: whether the run has saved a checkpoint.
    """

    config: Mapping[str, Any]
    identity: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    folder: str = "."
    id: str = ""
    has_saved: bool = False

    def path(self, name: str) -> Path:
        """A path of the config: as it was typed, in the folder where it was typed.

        Raises:
            BadInput: the record has another thing there.
        """
        value = self.config.get(name) or ""
        if not isinstance(value, str) or "\0" in value or "\0" in self.folder:
            raise BadInput(f"{RUN} of the run has {value!r} for --{name}: expected a path; restore the file")
        return files.absolute_list(value, self.folder)


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


def is_owned(workdir: Path) -> bool:
    """Whether a process trains in the folder, see `owned`."""
    try:
        descriptor = os.open(workdir / ".lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
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
        DamagedCheckpoints: the run has saved checkpoints, and none is there any more.
    """
    path, has_checkpoints = workdir / RUN, any((workdir / CHECKPOINTS).glob("step-*"))
    if (workdir / RUNS).exists():
        raise BadInput(f"--workdir {workdir} belongs to several runs (--folds, --seeds); choose another --workdir")
    if (workdir / SWEEP).exists():
        raise BadInput(f"--workdir {workdir} belongs to a sweep; choose another --workdir")
    saved = _saved(workdir)
    if saved is None:
        if has_checkpoints:
            raise BadInput(
                f"{workdir} has checkpoints but no {RUN}, so whose they are is unknown; choose another --workdir"
            )
        return False
    wrong = _differences(path, saved, config, identity)
    # A run that was stopped before its first checkpoint has nothing to lose.
    has_saved = has_checkpoints or saved.get("has_saved") or (workdir / RESULT).exists()
    if wrong and has_saved:
        raise BadInput(f"--workdir {workdir} belongs to another run: {'; '.join(wrong)}; choose another --workdir")
    if has_saved and not has_checkpoints:
        raise DamagedCheckpoints(
            f"{workdir / CHECKPOINTS} has none of the checkpoints that this run has saved; put them back, or choose "
            "another --workdir to start again"
        )
    return True


def as_recorded(workdir: Path, config: configs.Config) -> configs.Config:
    """The config, as the folder's run means it where it was recorded before some of the fields existed."""
    try:
        saved = files.read_json(workdir / RUN)["config"]
        if _has_old_test_file(saved) and config.eval_file == saved["eval_file"] and not config.test_file:
            # The same command as then.
            config = config.replace(eval_file="", test_file=config.eval_file)
        return configs.as_recorded(saved, config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # A new folder; or a damaged record, which `compare` refuses.
        return config


def run_id(workdir: Path, config: configs.Config, identity: Mapping[str, Any]) -> str:
    """The name of a run in its checkpoints: that in its record, else a hash of what must not change.

    Raises:
        BadInput: the record cannot be read.
    """
    saved = _saved(workdir)
    # A later version may have more fields, and so another hash of the same run.
    if saved and saved.get("id") and not _differences(workdir / RUN, saved, config, identity):
        return str(saved["id"])
    content = json.dumps([configs.as_dict(config), dict(identity)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def claim(workdir: Path, config: configs.Config, identity: Mapping[str, Any]) -> None:
    """Writes the run's record and flagfile, and removes the partial files of killed runs."""
    for path in (*workdir.glob(".partial-*.keras"), *workdir.glob(".*.partial")):
        path.unlink()
    name, has_saved = run_id(workdir, config, identity), any((workdir / CHECKPOINTS).glob("step-*"))
    # The current folder, because a path in the config is kept as it was typed.
    run = Run(configs.as_dict(config), dict(identity), os.getcwd(), name, has_saved)
    files.write(workdir / RUN, json.dumps(dataclasses.asdict(run), indent=1) + "\n")
    files.write(workdir / FLAGS, config.flags() + f"--workdir={workdir}\n")


def remember_save(workdir: Path) -> None:
    """Notes in the run's record that it has a checkpoint, so that it never starts anew where they are missing."""
    saved = _saved(workdir) or {}
    if not saved.get("has_saved"):
        files.write(workdir / RUN, json.dumps(saved | {"has_saved": True}, indent=1) + "\n")


def _saved(workdir: Path) -> dict[str, Any] | None:
    """The content of run.json, None without one."""
    path = workdir / RUN
    try:
        saved = files.read_json(path)
        if not isinstance(saved, dict):
            raise ValueError("it is not an object")
        return saved
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({error}); restore it or choose another --workdir") from None


def _differences(path: Path, saved: dict[str, Any], config: configs.Config, identity: Mapping[str, Any]) -> list[str]:
    """What a run must not change and has changed since its record was written."""
    try:
        return configs.differences(_renamed(saved["config"]), config) + [
            f"{name} was {saved['identity'].get(name)}, is {value}"
            for name, value in identity.items()
            if saved["identity"].get(name) != value
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} cannot be read ({error}); restore it or choose another --workdir") from None


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
        return Run(_renamed(saved["config"]), saved.get("identity", {}), str(saved.get("folder", ".")))
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
        return files.read_json(path)
    except FileNotFoundError:
        raise BadInput(f"{workdir} has no {name}: expected the --workdir of a finished run") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
