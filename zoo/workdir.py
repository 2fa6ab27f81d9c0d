"""The folder of a run: who owns it, what is in it, and whether a config may go on with it."""

import contextlib
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
FLAGS = "flags.txt"
RUN = "run.json"


@contextlib.contextmanager
def owned(workdir: Path) -> Iterator[None]:
    """Makes the folder if need be and holds it for this process; the kernel lets go of it on any death.

    Raises:
        BadInput: it is no folder, cannot be written, or another process trains in it.
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
    """Compares the run with the one that is written in its folder; writes nothing.

    Args:
        workdir: the folder.
        config: of this run.
        identity: what must not change besides the config: data, model, length of the schedule.

    Returns:
        Whether the folder has a run already, this one.

    Raises:
        BadInput: the folder belongs to a run that differs, field by field.
    """
    path, begun = workdir / RUN, any((workdir / CHECKPOINTS).glob("step-*"))
    if not path.exists():
        if begun:
            raise BadInput(
                f"{workdir} has checkpoints but no {RUN}, so whose they are is unknown; choose another --workdir"
            )
        return False
    try:
        saved = json.loads(path.read_text(encoding="utf8"))
        wrong = configs.differences(saved["config"], config)
        wrong += [
            f"{name} was {saved['identity'].get(name)}, is {value}"
            for name, value in identity.items()
            if saved["identity"].get(name) != value
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} cannot be read ({error}); restore it or choose another --workdir") from None
    # A run that was stopped before its first checkpoint has nothing to lose.
    if wrong and begun:
        raise BadInput(f"--workdir {workdir} belongs to another run: {'; '.join(wrong)}; choose another --workdir")
    return True


def claim(workdir: Path, config: configs.Config, identity: Mapping[str, Any]) -> None:
    """Writes what the run is, and clears what killed runs left half written."""
    for path in (*workdir.glob(".partial-*.keras"), *workdir.glob(".*.partial")):
        path.unlink()
    # The current folder, because a path in the config is kept as it was typed.
    about = {"config": configs.as_dict(config), "identity": dict(identity), "folder": os.getcwd()}
    files.write(workdir / RUN, json.dumps(about, indent=1) + "\n")
    files.write(workdir / FLAGS, config.flags() + f"--workdir={workdir}\n")


def read_json(workdir: Path, name: str) -> dict[str, Any]:
    """A JSON file of a finished run.

    Raises:
        BadInput: the folder or the file is not there, or torn.
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
