"""Command line of the races: contenders, rounds, batch sizes and output."""

import argparse
import fnmatch
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import race, report
from benchmarks.harness.race import Contender

# Contender whose time the others' times are divided by.
BASE = "engine"


def run(
    name: str,
    about: str,
    contenders: list[Contender],
    peers: Sequence[str],
    arguments: Sequence[str] | None = None,
    batch_sizes: str = "32,128",
) -> None:
    """Races the chosen contenders for each batch size; prints the tables and writes the JSON.

    Args:
        name: name of the benchmark's module.
        about: description in one line.
        contenders: all contenders, in the order of the table.
        peers: libraries that may have their own interpreter, a flag `--PEER_python` each.
        arguments: command-line arguments; those of this process by default.
        batch_sizes: default of `--batch_sizes`.
    """
    parser = _parser(name, about, peers, batch_sizes)
    options = parser.parse_args(arguments)
    patterns = options.contenders.split(",")
    chosen = [one for one in contenders if any(fnmatch.fnmatch(one.name, pattern) for pattern in patterns)]
    if not chosen:
        parser.error(f"--contenders={options.contenders}: expected some of {', '.join(c.name for c in contenders)}")
    pythons = {peer: getattr(options, f"{peer}_python") for peer in peers} | {"engine": sys.executable}
    record = {"machine": report.machine(), "settings": vars(options), "races": {}}
    for batch_size in map(int, options.batch_sizes.split(",")):
        print(f"batch size {batch_size}", flush=True)
        results = race.run(chosen, {"batch_size": batch_size}, pythons, options.rounds, options.seconds)
        rows = report.rows(results, batch_size, BASE)
        print(f"\nbatch size {batch_size}\n\n{report.table(rows, results)}\n", flush=True)
        record["races"][batch_size] = report.as_dict(results, rows)
        # After each race, so that no figure is lost if the next one is stopped.
        _write(Path(options.out), record)
    print(f"all figures: {options.out}")


def _parser(name: str, about: str, peers: Sequence[str], batch_sizes: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(f"python -m benchmarks.{name}", description=about)
    parser.add_argument("--rounds", type=int, default=10, help="chunks of each contender; default %(default)s")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a chunk, about; default %(default)s")
    parser.add_argument("--batch_sizes", default=batch_sizes, help="with commas; default %(default)s")
    parser.add_argument("--contenders", default="*", help="names, or patterns like fit*, with commas; default all")
    parser.add_argument("--out", default=f"runs/benchmarks/{name.replace(' ', '_')}.json", help="default %(default)s")
    for peer in peers:
        parser.add_argument(
            f"--{peer}_python", default=sys.executable, help=f"interpreter that has {peer}; default this one"
        )
    return parser


def _write(path: Path, record: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf8")
