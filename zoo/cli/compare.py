"""`zoo compare`."""

import argparse
from typing import Any

from zoo import strict_json
from zoo.errors import BadInput


def add(verbs: Any) -> None:
    """`zoo compare RUN RUN...`."""
    about = "Test which of several runs is better on their test split."
    more = (
        "Single runs are compared by their test examples (McNemar's exact test, paired bootstrap), folders of --seeds "
        "by their seeds (Student's paired t-test); p-values of several pairs are corrected by Holm's method. A "
        "difference is that from an earlier run to a later one."
    )
    verb = verbs.add_parser("compare", help=about, description=f"{about} {more}")
    verb.add_argument("runs", metavar="RUN", nargs="+", help="folder of a finished run, or of a run with --seeds")
    verb.add_argument(
        "--metric", metavar="NAMES", help="test metrics, with commas between them (default: the usual ones of the task)"
    )
    verb.add_argument("--json", action="store_true", help="print a JSON object only")
    verb.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from zoo import workdir as folders
    from zoo.cli import tensorboard
    from zoo.studies import comparison

    runs = tensorboard.named(arguments.runs, folders.RUN, folders.RUNS)
    if len(runs) < 2:
        raise BadInput(f"{arguments.runs[0]} alone has nothing to be compared with: expected two runs or more")
    names = [name.strip() for name in (arguments.metric or "").split(",") if name.strip()]
    found = comparison.compare(runs, names)
    print(strict_json.dumps(comparison.as_json(found)) if arguments.json else comparison.report(found))
    return 0
