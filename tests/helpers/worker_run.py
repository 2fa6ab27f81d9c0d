"""One worker of a multi-worker run: worker_run.py --workdir=WORKDIR and other flags; TF_CONFIG says which.

Environment: PAUSE=PLACE stops for good at a place (`build`, `train`, `evaluate`, `save`) the second time it gets there,
and says so on stdout; a test then sends its signal there.
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


def pausing(place, function):
    """The function; where PAUSE names the place, its second call says so and waits before it begins."""
    calls = []

    def wrapped(*arguments, **options):
        calls.append(place)
        if os.environ.get("PAUSE") == place and len(calls) == 2:
            print(place, flush=True)
            # In short waits, so that the handler of a signal may run.
            while not os.path.exists(os.environ["GO"]):
                time.sleep(0.05)
        return function(*arguments, **options)

    return wrapped


if __name__ == "__main__":
    Engine.train = pausing("train", Engine.train)
    Engine.evaluate_with_outputs = pausing("evaluate", Engine.evaluate_with_outputs)
    checkpoints.save = pausing("save", checkpoints.save)
    print("imported", flush=True)
    zoo.main(small.build, WorkerConfig, "")
