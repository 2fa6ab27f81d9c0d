"""One worker of a multi-worker run: worker_run.py --workdir=WORKDIR and other flags; TF_CONFIG says which.

Environment: the worker begins when the file START exists. PAUSE=PLACE pauses at a place (`train`, `evaluate`, `save`)
the second time it gets there, says so on stdout, and goes on when the file GO exists.
"""

import dataclasses
import os
import time

import zoo
from tests.helpers import small
from zoo import setting
from zoo.engine import checkpoints
from zoo.engine.engine import Engine


@dataclasses.dataclass(frozen=True)
class WorkerConfig(small.SmallConfig):
    epochs: float = setting(0.0, "See SmallConfig.", minimum=0, may_change=True)
    steps: int = setting(6, "Few.", minimum=0, may_change=True)
    dropout: float = setting(0.3, "Noise.", minimum=0, less_than=1)
    optimizer: str = setting("adamw", "One with slots.")
    ema: float = setting(0.9, "Averages.", minimum=0, less_than=1)
    clip_norm: float = setting(0.5, "Clips.", minimum=0)
    log_every: int = setting(3, "Twice.", minimum=1, may_change=True)
    weighted: bool = setting(True, "Weighs the examples.")
    checkpoint_every: int = setting(3, "Twice.", minimum=0, may_change=True)
    schedule: str = setting("cosine", "One that falls.")
    strategy: str = setting("multiworker", "Workers.", may_change=True)


CONFIG = WorkerConfig(strategy="auto")


def wait_for(path):
    """Waits in short steps, so that the handler of a signal may run."""
    while not os.path.exists(path):
        time.sleep(0.05)


def pausing(place, function):
    """The function; where PAUSE names the place, its second call says so and waits before it begins."""
    calls = []

    def wrapped(*arguments, **options):
        calls.append(place)
        if os.environ.get("PAUSE") == place and len(calls) == 2:
            print(place, flush=True)
            wait_for(os.environ["GO"])
        return function(*arguments, **options)

    return wrapped


if __name__ == "__main__":
    Engine.train = pausing("train", Engine.train)
    Engine.evaluate_with_outputs = pausing("evaluate", Engine.evaluate_with_outputs)
    checkpoints.save = pausing("save", checkpoints.save)
    # Both start at once, however busy the machine is.
    print("imported", flush=True)
    wait_for(os.environ["START"])
    zoo.main(small.build, WorkerConfig, "")
