"""Three small trainings with a linear model beside each: data that a seed draws, and the plain config."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import bert_finetune, lstm_sentiment, mlp_classifier
from zoo import files
from zoo.data.datasets import images, text_classification

SIZES = TRAIN, VALIDATION, TEST = 4_000, 1_000, 5_000


class Task(NamedTuple):
    """A training that choices are compared on.

    Attributes:
        about: what it is, in a line.
        build: the experiment's.
        config: function that makes the config from the folder of the data and other flags.
        data: writes the data of a seed into a folder.
        steps: steps of a run.
        rates: learning rates of which validation picks one, for optimizers that scale their steps (`adaptive`), and
            for others (`plain`).
        compile: the value of --compile where the processor time of a step is measured: the users' `auto`, or `none`
            where a step takes as long without, and compilation longer than the measurement.
        leaves_out: names of choices that cannot train it, whose steps would take too long, or that are near one that is
            there: with all of them the study would take hours.
        longer: factor of the steps where regularizers are compared, so that there is something to regularize.
    """

    about: str
    build: Callable
    config: Callable[..., Any]
    data: Callable[[Path, int], None]
    steps: int
    rates: dict[str, tuple[float, ...]]
    compile: str
    leaves_out: tuple[str, ...] = ()
    longer: int = 1


def _images(folder: Path, seed: int) -> None:
    data, draw = images.load("fashion_mnist"), np.random.default_rng(seed)
    order = draw.permutation(len(data.train["y"]))
    parts = {"train": order[:TRAIN], "eval": order[TRAIN : TRAIN + VALIDATION]}
    for name, rows in parts.items():
        np.savez(folder / f"{name}.npz", x=data.train["x"][rows], y=data.train["y"][rows])
    rows = draw.permutation(len(data.test["y"]))[:TEST]
    np.savez(folder / "test.npz", x=data.test["x"][rows], y=data.test["y"][rows])


def _texts(folder: Path, seed: int) -> None:
    data = text_classification.load("glue/sst2")
    # Phrases of a sentence are examples of their own there: a test text must not be part of a training text, so the
    # test examples are those of the official validation split.
    order = np.random.default_rng(seed).permutation(len(data.train.texts))
    parts = {"train": (data.train, order[:TRAIN]), "eval": (data.train, order[TRAIN : TRAIN + VALIDATION])}
    parts["test"] = (data.test, np.arange(len(data.test.texts)))
    for name, (split, rows) in parts.items():
        lines = [json.dumps({"text": split.texts[i], "label": data.classes[split.labels[i]]}) for i in rows.tolist()]
        files.write(folder / f"{name}.jsonl", "\n".join(lines) + "\n")


def _mlp(folder: Path, **flags: Any) -> mlp_classifier.MlpConfig:
    paths = {"dataset": "train.npz", "eval_file": "eval.npz", "test_file": "test.npz"}
    paths = {name: str(folder / file) for name, file in paths.items()}
    own = {"hidden": (64, 64), "batch_size": 100, "show": "none", "graph": False, "epochs": 0}
    return mlp_classifier.MlpConfig(**paths | own | flags)


def _lstm(folder: Path, **flags: Any) -> lstm_sentiment.LstmConfig:
    own = {"recipe": "plain", "width": 64, "units": 64, "max_length": 32, "batch_size": 50, "graph": False, "epochs": 0}
    return lstm_sentiment.LstmConfig(**_text_files(folder) | own | {"vocabulary": 10_000} | flags)


def _encoder(folder: Path, **flags: Any) -> bert_finetune.FinetuneConfig:
    own = {"layers": 1, "width": 64, "heads": 4, "context": 32, "vocabulary": 10_000, "batch_size": 50, "epochs": 0}
    # Without the linear model of n-grams, which would hide what the encoder learns.
    own |= {"graph": False, "schedule": "constant", "warmup_steps": 0, "optimizer": "adam", "ngrams": False}
    own |= {"dropout": 0.0}
    return bert_finetune.FinetuneConfig(**_text_files(folder) | own | flags)


def _text_files(folder: Path) -> dict[str, str]:
    return {f"{name}_file": str(folder / f"{name}.jsonl") for name in ("train", "eval", "test")}


_NEAR = ("rmsprop", "lamb", "adam, --sam=asam", "cosine_restarts", "inverse_sqrt")
# Of the perceptron they helped little or not at all.
_LESS_USED = ("--l1=1e-5", "--gradient_noise=0.01")
TASKS = {
    "mlp": Task(
        "784-64-64-10 perceptron, 4,000 images of Fashion-MNIST, batches of 100",
        mlp_classifier.build,
        _mlp,
        _images,
        400,
        {"adaptive": (1e-3, 3e-3, 1e-2), "plain": (0.03, 0.1, 0.3)},
        "auto",
        longer=2,
    ),
    "lstm": Task(
        "Embedding(10,000, 64)-LSTM(64)-Dense(1), 4,000 phrases of SST-2, batches of 50",
        lstm_sentiment.build,
        _lstm,
        _texts,
        300,
        {"adaptive": (1e-3, 3e-3), "plain": (0.3, 1.0)},
        "none",
        # newton_cg differentiates forward, which the LSTM's loop cannot.
        leaves_out=("newton_cg", *_NEAR, "adamw", "cosine", *_LESS_USED),
    ),
    "encoder": Task(
        "Transformer of 1 layer, 64 wide, untrained, 4,000 phrases of SST-2, batches of 50",
        bert_finetune.build,
        _encoder,
        _texts,
        300,
        {"adaptive": (1e-3, 3e-3), "plain": (0.1, 0.3)},
        "none",
        # A step of second order takes as long as a hundred of Adam's or more.
        leaves_out=("newton_cg", "lbfgs", *_NEAR, "adamw", "sgd", "lion", "cosine", *_LESS_USED),
    ),
}
