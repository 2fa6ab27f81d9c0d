"""`zoo tensorboard`: starts TensorBoard on some runs, each under its own name, on this machine only."""

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
# Name of an extra run that holds the table of hyperparameters.
_COMPARISON = "columns"
# Texts and images to keep per tag; TensorBoard's default is ten.
_SAMPLES = "text=200,images=50"


def add(verbs: Any) -> None:
    """`zoo tensorboard RUN... [--port N]`."""
    about = "Show curves, images and texts of runs in the browser."
    verb = verbs.add_parser("tensorboard", help=about, description=f"{about} Several runs are shown side by side.")
    verb.add_argument("runs", metavar="RUN", nargs="+", help="folder of a run, finished or not, or of a sweep")
    verb.add_argument(
        "--port",
        metavar="N",
        type=_port,
        help="port on this machine; 0: any free one (default: 6006, or the next free one)",
    )
    verb.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from zoo import workdir as folders

    runs = named(arguments.runs, folders.RUN, folders.SWEEP)
    if arguments.port:
        _check_free(arguments.port)
    # Hides TensorFlow's start-up notices, which a user cannot act on.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from tensorboard import default, program

    from zoo.tensorboard import run_comparison

    # Links instead of --logdir_spec, which would hide the projector and the profiles and turn the fast reader off.
    with tempfile.TemporaryDirectory(prefix="zoo-tensorboard-") as folder:
        for name, path in runs.items():
            is_sweep = (path / folders.SWEEP).is_file()
            (Path(folder) / name).symlink_to(path / folders.SWEEP_TABLE if is_sweep else path, target_is_directory=True)
            print(f"{name}: {path}", file=sys.stderr)
            _link_profiles(Path(folder) / "profiles" / name, path)
        # A sweep has columns of its own.
        single = {name: path for name, path in runs.items() if (path / folders.RUN).is_file()}
        if single:
            run_comparison.write(Path(folder) / _COMPARISON, single)
        board = program.TensorBoard(plugins=default.get_plugins())
        flags = ["--logdir", folder, "--host", _HOST, "--samples_per_plugin", _SAMPLES, "--window_title", "zoo"]
        board.configure(["", *flags, *([] if arguments.port is None else ["--port", str(arguments.port)])])
        if board.main():
            raise BadInput("TensorBoard did not start; see its own message above")
    return 0


def named(runs: Sequence[str], *kinds: str) -> dict[str, Path]:
    """A unique name for each run: its folder's, with the folders above it where names repeat.

    Args:
        runs: folders of runs.
        *kinds: files one of which such a folder has; none: run.json.

    Raises:
        BadInput: a folder is not a run.
    """
    paths = list(dict.fromkeys(_run_folder(run, kinds) for run in runs))
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["_".join(part.strip("/") for part in path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, paths, strict=True))


def _run_folder(run: str, kinds: Sequence[str]) -> Path:
    from zoo import workdir as folders

    path = Path(run).expanduser().resolve()
    if not path.is_dir():
        raise BadInput(f"{run} is not a folder: expected the --workdir of a run")
    if not any((path / kind).is_file() for kind in kinds or (folders.RUN,)):
        inside = sorted(file.parent.name for file in path.glob(f"*/{folders.RUN}"))
        hint = f"; did you mean {run.rstrip('/')}/{inside[0]}?" if inside else ""
        raise BadInput(f"{run} is not a run, it has no {folders.RUN}: expected the --workdir of a run{hint}")
    return path


def _link_profiles(folder: Path, run: Path) -> None:
    """Links the traces of `--profile` a second time, where the Profile tab finds them: not in links to whole runs."""
    for session in run.glob("*/plugins/profile/*"):
        place = folder / "plugins" / "profile"
        place.mkdir(parents=True, exist_ok=True)
        (place / session.name).symlink_to(session, target_is_directory=True)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        # As TensorBoard does: a port that was just closed can be used again.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise BadInput(f"--port {port} cannot be used: {error.strerror}; choose another, or leave it out") from None


def _port(text: str) -> int:
    if not text.isdecimal() or len(text) > 5 or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text[:30]!r} is not a port: expected 0 to 65535")
    return int(text)
