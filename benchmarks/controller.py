"""Study of `--controller`: seven small trainings, beside the same run without it and the best of a sweep.

    python -m benchmarks.controller --out=runs/controller

Each of three seeds draws the examples of a training, and its weights. Compared by test accuracy are the run with the
default rate, the same with a controller that compares accuracies, and the best by validation accuracy of 20 random
draws of learning rate (log-uniform, 0.0001 to 0.03), weight decay (0 or log-uniform, 0.03 to 1) and schedule (constant
or linear); and a linear model of the same examples. Costs are the steps of training and look ahead, over those of the
run. Results are kept in `--out` and not computed again.
"""

import argparse
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

import zoo
from benchmarks.optimization import tasks
from experiments import bert_finetune, lstm_sentiment, mlp_classifier
from zoo import files
from zoo import workdir as folders
from zoo.data.datasets import images, text_classification
from zoo.training import several_runs

VALIDATION, TEST, TRIALS = 1_000, 5_000, 20


class Training(NamedTuple):
    """A training of the study.

    Attributes:
        build: the experiment's function.
        config: function that makes the config from the folder of the data and other flags.
        data: writes the data of a seed into a folder, from the number of training examples on.
        examples: training examples.
        steps: steps of a run.
    """

    build: Callable
    config: Callable[..., Any]
    data: Callable[[Path, int, int], None]
    examples: int
    steps: int


def _images(dataset: str, wrong: float = 0.0) -> Callable[[Path, int, int], None]:
    """Images of which a share has a label drawn at random; those of the test split are as they were."""

    def write(folder: Path, seed: int, examples: int) -> None:
        data, draw = images.load(dataset), np.random.default_rng(seed)
        order = draw.permutation(len(data.train["y"]))[: examples + VALIDATION]
        labels = data.train["y"][order]
        labels = np.where(draw.random(len(labels)) < wrong, draw.integers(0, 10, len(labels)), labels).astype(np.int32)
        for name, part in (("train", slice(examples)), ("eval", slice(examples, None))):
            np.savez(folder / f"{name}.npz", x=data.train["x"][order[part]], y=labels[part])
        rows = draw.permutation(len(data.test["y"]))[:TEST]
        np.savez(folder / "test.npz", x=data.test["x"][rows], y=data.test["y"][rows])

    return write


def _phrases(folder: Path, seed: int, examples: int) -> None:
    """Phrases of SST-2; the test examples are sentences of the official validation split."""
    data = text_classification.load("glue/sst2")
    order = np.random.default_rng(seed).permutation(len(data.train.texts))
    parts = {"train": (data.train, order[:examples]), "eval": (data.train, order[examples : examples + VALIDATION])}
    parts["test"] = (data.test, np.arange(len(data.test.texts)))
    for name, (split, rows) in parts.items():
        lines = [json.dumps({"text": split.texts[i], "label": data.classes[split.labels[i]]}) for i in rows.tolist()]
        files.write(folder / f"{name}.jsonl", "\n".join(lines) + "\n")


_MLP = (mlp_classifier.build, tasks.TASKS["mlp"].config)
_LSTM = (lstm_sentiment.build, tasks.TASKS["lstm"].config)
# One layer, as the sweeps train it more than a hundred times.
_ENCODER = (bert_finetune.build, functools.partial(tasks.TASKS["encoder"].config, layers=1, dropout=0.1))
TRAININGS = {
    "MLP, 4,000 of MNIST": Training(*_MLP, _images("mnist"), 4_000, 400),
    "MLP, 4,000 of Fashion-MNIST": Training(*_MLP, _images("fashion_mnist"), 4_000, 400),
    "MLP, 1,000 of Fashion-MNIST": Training(*_MLP, _images("fashion_mnist"), 1_000, 400),
    "MLP, 4,000 of Fashion-MNIST, 40 % wrong": Training(*_MLP, _images("fashion_mnist", 0.4), 4_000, 400),
    "LSTM, 4,000 of SST-2": Training(*_LSTM, _phrases, 4_000, 300),
    "LSTM, 1,000 of SST-2": Training(*_LSTM, _phrases, 1_000, 300),
    "encoder, 4,000 of SST-2": Training(*_ENCODER, _phrases, 4_000, 300),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of data, runs and results")
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="part of the trainings' names")
    parser.add_argument("--trials", type=int, default=TRIALS, help="trials of the sweep; 0: no sweep")
    options = parser.parse_args(arguments)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    head = ["training", "default", "with a controller", "over the default", "best of the sweep", "controller over it"]
    print(f"| {' | '.join([*head, 'linear model', 'cost'])} |\n|{8 * '---|'}")
    for name, training in TRAININGS.items():
        if options.only in name:
            rows = [_seed(options.out / name.replace(",", ""), training, seed, options.trials) for seed in seeds]
            print(_row(name, rows), flush=True)


def _seed(folder: Path, training: Training, seed: int, trials: int) -> dict[str, float]:
    data = folder / f"data-{seed}"
    if not data.exists():
        data.mkdir(parents=True)
        training.data(data, seed, training.examples)
    # Text experiments have a linear model beside them without being asked.
    is_asked = training.build is mlp_classifier.build
    plain = _run(training, folder, data, seed, {"baseline": True} if is_asked else {})
    controlled = _run(training, folder, data, seed, {"controller": True, "metric": "accuracy"})
    draws = [_drawn(np.random.default_rng([seed, trial])) for trial in range(trials)]
    swept = [_run(training, folder, data, seed, flags) for flags in draws] or [plain]
    best = max(swept, key=lambda result: result["eval/accuracy"])
    accuracies = {"default": plain, "controller": controlled, "sweep": best}
    found = {key: 100 * each["test/accuracy"] for key, each in accuracies.items()}
    return found | {"linear": 100 * plain["test/baseline_accuracy"], "cost": controlled["cost"]}


def _drawn(draw: np.random.Generator) -> dict[str, Any]:
    rate, decay = 10 ** draw.uniform(-4.0, -1.5), 10 ** draw.uniform(-1.5, 0.0)
    is_decayed, falls = draw.random(2) < 0.5
    return {
        "learning_rate": float(f"{rate:.3g}"),
        "weight_decay": float(f"{decay:.3g}") if is_decayed else 0.0,
        "schedule": "linear" if falls else "constant",
    }


def _run(training: Training, folder: Path, data: Path, seed: int, flags: dict[str, Any]) -> dict[str, float]:
    name = " ".join([f"seed={seed}", *(f"{key}={value}" for key, value in flags.items())])
    run = folder / name
    if not (run / folders.RESULT).exists():
        keras.backend.clear_session()
        common = {"seed": seed, "steps": training.steps, "eval_every": training.steps, "compile": "none"}
        build = training.build if "baseline" in flags else functools.partial(_build, training.build)
        zoo.run(build, training.config(data, **common, **flags), run)
    result = json.loads((run / folders.RESULT).read_text())
    if "controller" not in flags:
        return result
    decisions = [json.loads(line) for line in (run / folders.DECISIONS).read_text().splitlines()]
    ahead = sum(len(decision["tried"]) * decision["steps_ahead"] for decision in decisions)
    return result | {"cost": 1.0 + ahead / training.steps}


def _build(build: Callable, config: Any) -> zoo.Experiment:
    """The experiment with the accuracy that `forward` reports, and no intervals, which take half of a run's time."""
    return build(config)._replace(compute_metrics=None, decision=None, predictions=None)


def _row(name: str, rows: Sequence[dict[str, float]]) -> str:
    default, controller, sweep, linear, cost = (
        [row[key] for row in rows] for key in ("default", "controller", "sweep", "linear", "cost")
    )
    cells = [_mean(default), _mean(controller), _mean(np.subtract(controller, default), "+"), _mean(sweep)]
    cells += [_mean(np.subtract(controller, sweep), "+"), _mean(linear), f"{np.mean(cost):.1f}"]
    return f"| {' | '.join([name, *cells])} |"


def _mean(values: Sequence[float], sign: str = "") -> str:
    """Mean and half of Student's 95 % interval."""
    if len(values) < 2:
        return f"{np.mean(values):{sign}.2f}"
    found = several_runs.summary(values)
    return f"{found.mean:{sign}.2f} ± {found.high - found.mean:.2f}"


if __name__ == "__main__":
    main()
