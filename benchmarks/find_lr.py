"""How near the learning rate that `--find_lr` suggests is to the best one of a grid.

    python -m benchmarks.find_lr                     # all, four minutes on two cores
    python -m benchmarks.find_lr --rows=digits-adam,digits-sgd

Each row trains one network from the same initial weights for 300 steps with each rate of a grid, three in a decade from
1e-4 up to four above the best, and a constant schedule, and takes the rate with the lowest validation loss. The table
has that rate, the suggestion of the range test, how many times it is larger or smaller, and the validation loss after
training with each of the two.
"""

import argparse
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from experiments import bert_finetune, lstm_sentiment, mlp_classifier
from zoo.engine import devices
from zoo.engine.engine import Engine
from zoo.experiment import Experiment
from zoo.training import find_lr
from zoo.training.run import make_engine

GRID = 10.0 ** (np.arange(-12, 2) / 3)
STEPS = 300
# Rates above the best one after which a grid ends.
_WORSE = 4
_PLAIN = {"epochs": 0, "steps": STEPS, "baseline": False, "find_lr": True, "batch_size": 32}
_SST2 = {"dataset": "glue/sst2", "tokenizer": "word", "vocabulary": 4000}


def _digits(optimizer: str) -> tuple[Any, Any]:
    options = {**_PLAIN, "batch_size": 128, "dataset": "digits", "hidden": (128,), "optimizer": optimizer}
    return mlp_classifier.build, mlp_classifier.MlpConfig(**options)


def _lstm() -> tuple[Any, Any]:
    options = {**_PLAIN, **_SST2, "recipe": "plain", "width": 32, "units": 32, "max_length": 24}
    return lstm_sentiment.build, lstm_sentiment.LstmConfig(**options, optimizer="adam")


def _encoder() -> tuple[Any, Any]:
    options = {**_PLAIN, **_SST2, "share": 0.1, "preset": "tiny", "context": 16, "ngrams": False}
    return bert_finetune.build, bert_finetune.FinetuneConfig(**options, optimizer="adamw")


ROWS = {
    "digits-sgd": lambda: _digits("sgd"),
    "digits-momentum": lambda: _digits("momentum"),
    "digits-adam": lambda: _digits("adam"),
    "digits-adamw": lambda: _digits("adamw"),
    "sst2-lstm-adam": _lstm,
    "sst2-encoder-adamw": _encoder,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures the rows and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS), help="rows of the table, with commas")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    lines = ["| network | best of the grid | suggested | times | loss with the best | with the suggestion |"]
    lines.append("|---|---|---|---|---|---|")
    for name in options.rows.split(","):
        build, config = ROWS[name]()
        lines.append(row(name, build, config.replace(seed=options.seed)))
        print(lines[-1], flush=True)
    print("\n" + "\n".join(lines))


def row(name: str, build: Any, config: Any) -> str:
    """The table's line of one network."""
    strategy = devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(config.seed)
        experiment = build(config)
    engine = make_engine(
        strategy, find_lr.without_schedule(experiment.config or config), experiment._replace(config=None), STEPS
    )
    start = engine.state()
    suggested = find_lr.measure(engine, experiment.train).suggestion
    losses: dict[float, float] = {}
    for rate in GRID:
        losses[rate] = _loss(engine, experiment, start, rate)
        best = min(losses, key=losses.get)
        if len([each for each in losses if each > best]) == _WORSE:
            break
    if suggested is None:
        return f"| {name} | {best:.2g} | none | | {losses[best]:.3f} | |"
    loss = _loss(engine, experiment, start, suggested)
    times = max(best / suggested, suggested / best)
    return f"| {name} | {best:.2g} | {suggested:.2g} | {times:.1f} | {losses[best]:.3f} | {loss:.3f} |"


def _loss(engine: Engine, experiment: Experiment, start: dict[str, np.ndarray], rate: float) -> float:
    engine.load(start)
    engine.rate_level.assign(rate)
    engine.train(experiment.train, 0, STEPS)
    loss = engine.evaluate(next(iter(experiment.evals.values())))["loss"]
    return loss if math.isfinite(loss) else math.inf


if __name__ == "__main__":
    main()
