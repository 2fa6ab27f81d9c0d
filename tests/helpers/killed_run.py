"""A run in a process of its own that kills itself at a stated moment: killed_run.py WORKDIR [MOMENT].

MOMENT is `training:STEP`, `evaluation:COUNT`, `save:COUNT`, `compile:1` (all SIGKILL) or `term:STEP` (SIGTERM).
"""

import json
import os
import signal
import sys

import zoo
from tests.helpers.small import SmallConfig, build
from zoo.engine import manifest
from zoo.engine.engine import Engine

CONFIG = SmallConfig(
    epochs=0, steps=12, dropout=0.3, optimizer="adamw", ema=0.9, clip_norm=0.5, log_every=3, eval_every=4,
    checkpoint_every=2, weighted=True, steps_per_loop=2, compile="auto",
)  # fmt: skip


def kill(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)


def before(owner, name, fatal, number=signal.SIGKILL):
    """Replaces a function by one that kills the process where `fatal` says so, then does what it always did."""
    real = getattr(owner, name)
    calls = []

    def wrapped(*given, **named):
        calls.append(1)
        if fatal(len(calls), *given):
            kill(number)
        return real(*given, **named)

    setattr(owner, name, wrapped)


def arm(moment: str) -> None:
    kind, count = moment.split(":")
    count = int(count)
    if kind == "training":
        before(Engine, "train", lambda calls, engine, batches, step, steps: step >= count)
    elif kind == "term":
        before(Engine, "train", lambda calls, engine, batches, step, steps: step >= count, signal.SIGTERM)
    elif kind == "evaluation":
        before(Engine, "evaluate_with_outputs", lambda calls, *given: calls >= count)
    elif kind == "compile":
        before(Engine, "_loop", lambda *given: True)
    elif kind == "save":
        # After the variables are written and before the manifest: the worst moment.
        before(manifest, "describe", lambda calls, path: calls > 2 * count and "partial" in str(path))
    else:
        raise ValueError(moment)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        arm(sys.argv[2])
    try:
        print(json.dumps(zoo.run(build, CONFIG, sys.argv[1])))
    except zoo.errors.ZooError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
