"""`main` of an experiment: parses flags, trains, and prints the result as one JSON line."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import app, flags

from zoo import config as configs
from zoo import flag_values, strict_json
from zoo.errors import BadInput, ZooError
from zoo.training import flag_help, flag_parsing


def main(build: Callable[[Any], Any], config_class: type[configs.Config], workdir: str) -> None:
    """Runs an experiment from the command line, and exits.

    Logs go to stderr; the last line on stdout is a JSON object with the final metrics. Exit codes: 0 done, 2 bad
    input, 3 not finite, 4 no checkpoint can be read, 128 + n stopped by signal n.

    Args:
        build: the experiment's `build(config)`.
        config_class: dataclass whose fields become flags.
        workdir: default of `--workdir`.
    """
    configs.define_flags(config_class, workdir)

    def entry(arguments: list[str]) -> int:
        # Imported after the flags are parsed: --help and a wrong flag need no TensorFlow.
        from zoo.training.run import run

        if len(arguments) > 1:
            raise BadInput(f"argument {arguments[1]!r} is not a flag: expected --name=value")
        flag_values.check("workdir", flags.FLAGS.workdir, {})
        result = run(build, configs.from_flags(config_class), flags.FLAGS.workdir)
        print(strict_json.dumps(result), flush=True)
        return 0

    def guarded(arguments: list[str]) -> int:
        try:
            return entry(arguments)
        except ZooError as error:
            print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
            return error.exit_code

    def parse(arguments: list[str]) -> list[str]:
        # absl's own --help is long, sorted alphabetically, and ends with exit code 1.
        if not flag_help.ASKED.isdisjoint(arguments):
            print(flag_help.text(sys.modules["__main__"].__doc__ or "", config_class, workdir))
            sys.exit(0)
        return flag_parsing.parse(arguments, config_class)

    app.run(guarded, flags_parser=parse)
