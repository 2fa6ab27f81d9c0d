"""What the verbs of the command line share; imports nothing that takes time."""

import argparse
import sys
from pathlib import Path
from typing import Any

from zoo.errors import ZooError

EXIT_CODES = """\
exit codes: 0 done, 2 bad input, 3 not finite, 4 no checkpoint can be read, 128 + n stopped by signal n"""


def add_verb(verbs: Any, name: str, about: str, more: str = "") -> argparse.ArgumentParser:
    """A command with its WORKDIR; what `more` there is to say stands in its own help alone."""
    described = f"{about} {more}".strip()
    verb = verbs.add_parser(name, help=about, description=described, epilog=EXIT_CODES, allow_abbrev=False)
    verb.add_argument("workdir", metavar="WORKDIR", help="folder of a finished run")
    return verb


def positive(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def require_run(workdir: str) -> None:
    """Refuses a wrong folder at once, not after the seconds that TensorFlow takes."""
    from zoo import workdir as folders

    folders.read_json(Path(workdir).expanduser(), folders.ABOUT)


def fail(error: ZooError) -> int:
    """Says what went wrong in one line on stderr; the exit code."""
    print(f"zoo: {error}", file=sys.stderr, flush=True)
    return error.exit_code
