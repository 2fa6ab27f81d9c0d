"""`zoo tensorboard`: TensorBoard over some runs, each under its own name, for this machine only."""

import argparse
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.errors import BadInput

_HOST = "127.0.0.1"
# The run that holds what the table of hyperparameters shows, and nothing else.
_COMPARISON = "columns"
# Texts and pictures of a tag that are kept; by itself TensorBoard throws away all but ten.
_SAMPLES = "text=200,images=50"


def add(verbs: Any) -> None:
    """`zoo tensorboard RUN... [--port N]`."""
    about = "Show curves, pictures and texts of runs in the browser."
    verb = verbs.add_parser("tensorboard", help=about, description=f"{about} Several runs stand side by side.")
    verb.add_argument("runs", metavar="RUN", nargs="+", help="folder of a run, finished or not")
    verb.add_argument(
        "--port", metavar="N", type=_port, help="of this machine; 0: a free one (default: 6006, or the next free one)"
    )
    verb.set_defaults(run=_run)


def named(runs: Sequence[str]) -> dict[str, Path]:
    """A name for each run: of its folder, with as many of those above it as tell all apart.

    Raises:
        BadInput: a folder is no run.
    """
    paths = list(dict.fromkeys(_run_folder(run) for run in runs))
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["_".join(part.strip("/") for part in path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, paths, strict=True))


def _run_folder(run: str) -> Path:
    # Imported here, as the folder's module is not needed for --help.
    from zoo import workdir as folders

    path = Path(run).expanduser().resolve()
    if not path.is_dir():
        raise BadInput(f"{run} is not a folder: expected the --workdir of a run")
    if not (path / folders.RUN).is_file():
        inside = sorted(found.parent.name for found in path.glob(f"*/{folders.RUN}"))
        hint = f"; did you mean {run.rstrip('/')}/{inside[0]}?" if inside else ""
        raise BadInput(f"{run} is no run, it has no {folders.RUN}: expected the --workdir of a run{hint}")
    return path


def _run(arguments: argparse.Namespace) -> int:
    runs = named(arguments.runs)
    if arguments.port:
        _check_free(arguments.port)
    # Notices of TensorFlow's start say nothing that a user could act on.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from tensorboard import default, program

    from zoo.tensorboard import run_comparison

    # Links, not --logdir_spec: with it the projector and the profiles are not found, and the fast reader is off.
    with tempfile.TemporaryDirectory(prefix="zoo-tensorboard-") as folder:
        for name, path in runs.items():
            (Path(folder) / name).symlink_to(path, target_is_directory=True)
            print(f"{name}: {path}", file=sys.stderr)
            _link_profiles(Path(folder) / "profiles" / name, path)
        run_comparison.write(Path(folder) / _COMPARISON, runs)
        board = program.TensorBoard(plugins=default.get_plugins())
        given = ["--logdir", folder, "--host", _HOST, "--samples_per_plugin", _SAMPLES, "--window_title", "zoo"]
        board.configure(["", *given, *([] if arguments.port is None else ["--port", str(arguments.port)])])
        if board.main():
            raise BadInput("TensorBoard did not start; its own message stands above")
    return 0


def _link_profiles(folder: Path, run: Path) -> None:
    """Links what `--profile` traced once more, in folders of its own: the Profile tab does not follow the others."""
    for session in run.glob("*/plugins/profile/*"):
        place = folder / "plugins" / "profile"
        place.mkdir(parents=True, exist_ok=True)
        (place / session.name).symlink_to(session, target_is_directory=True)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        # As the server does: a port that was just left may be taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise BadInput(f"--port {port} cannot be used: {error.strerror}; choose another, or leave it out") from None


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: expected 0 to 65535")
    return int(text)
