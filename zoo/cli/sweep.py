"""`zoo sweep`: trials of an experiment with other values of some flags."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo import strict_json
from zoo.cli.parser import Parser, limit, positive

# As in `zoo.studies.search`, which imports NumPy.
_SAMPLERS, _PRUNERS = ("tpe", "random", "grid"), ("none", "median", "halving", "hyperband")


def add(verbs: Any) -> None:
    """`zoo sweep EXPERIMENT --space SPACE [--FLAG=VALUE ...]`."""
    about = "Try values of an experiment's flags, judged by validation."
    more = (
        "Any other flag, --name=value, is the experiment's own and shared by all trials: --dataset, --epochs, "
        "--metric, --seeds=3, ... After -- all flags are. The same command goes on after a stop. The test split is "
        "measured once, for the best trial. A sweep needs Optuna: pip install 'zoo-keras[sweep]'."
    )
    verb = verbs.add_parser("sweep", help=about, description=f"{about} {more}")
    verb.add_argument(
        "experiment", metavar="EXPERIMENT", help="module of an experiment, such as experiments.mlp_classifier, or a .py"
    )
    verb.add_argument(
        "--space",
        metavar="SPACE",
        required=True,
        help="flags and their values in one text, with blanks between them: 'learning_rate=log:1e-4..1e-1 "
        "dropout=0..0.5 optimizer=adamw|sgd hidden=64|64,64'; ranges of a grid need points, dropout=0..0.5/6",
    )
    verb.add_argument(
        "--sampler",
        choices=_SAMPLERS,
        default="tpe",
        help="tpe: Optuna's Tree-structured Parzen Estimator, whose first ten trials are random; random; grid: all "
        "combinations (default: tpe)",
    )
    verb.add_argument(
        "--pruner",
        choices=_PRUNERS,
        default="none",
        help="ends trials early that are behind others after as many evaluations, by Optuna's rules (default: none, as "
        "what starts slowly may end best)",
    )
    verb.add_argument(
        "--trials", metavar="N", type=positive, help="trials in all, earlier ones included (default: 20, or the grid)"
    )
    verb.add_argument(
        "--seconds", metavar="N", type=limit(float), help="no trial starts after so many seconds of trials"
    )
    verb.add_argument(
        "--sampler_seed", metavar="N", type=limit(int), default=0, help="seed of the values that are drawn (default: 0)"
    )
    verb.add_argument(
        "--workdir", metavar="FOLDER", default="runs/sweep", help="folder of all trials (default: runs/sweep)"
    )
    verb.add_argument("--json", action="store_true", help="print sweep.json instead of the table")
    verb.set_defaults(run=_run, flags=[])


def is_asked(argv: Sequence[str]) -> bool:
    """Whether a command line is that of a sweep, whose unknown flags are the experiment's."""
    return next((word for word in argv if not word.startswith("-")), "") == "sweep"


def parsed(parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a sweep; `flags` are those of the experiment.

    Args:
        parser: parser of `zoo`.
        argv: words after `zoo`.
    """
    words = list(argv)
    own, rest = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    arguments, unknown = parser.parse_known_args(own)
    arguments.flags = [*unknown, *rest]
    return arguments


def _run(arguments: argparse.Namespace) -> int:
    from zoo.studies import sweep, sweep_summary
    from zoo.studies.search import imported
    from zoo.studies.trial_process import TrialProcess
    from zoo.training import signals

    imported()
    plan = sweep.Plan(
        arguments.experiment,
        tuple(arguments.flags),
        " ".join(arguments.space.split()),
        arguments.sampler,
        arguments.pruner,
        arguments.sampler_seed,
        arguments.trials,
        arguments.seconds,
    )
    with signals.watched() as interrupt:
        # Until the trial has saved; a second signal ends at once.
        interrupt.saves_first = True
        runner = TrialProcess(arguments.experiment, interrupt)
        try:
            summary = sweep.run(plan, Path(arguments.workdir), runner)
        finally:
            runner.close()
    print(strict_json.dumps(sweep_summary.as_json(summary)) if arguments.json else sweep_summary.report(summary))
    return 0
