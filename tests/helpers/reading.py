"""A small task of sequences: an LSTM with every kind of noise and penalty, on texts of made-up words."""

import dataclasses
import functools

import numpy as np

import zoo
from experiments import lstm_sentiment
from zoo import Batches, Config, Experiment, setting
from zoo.metrics import evaluation_report
from zoo.models import lstm

VOCABULARY, LONGEST = 20, 19


@dataclasses.dataclass(frozen=True)
class ReadingConfig(Config):
    epochs: float = setting(2.0, "Two.", minimum=0, may_change=True)
    batch_size: int = setting(8, "Three batches of 8, and one of 5.", minimum=1)
    learning_rate: float = setting(0.02, "Large, so that a wrong step shows.", minimum=0)
    examples: int = setting(29, "Prime.", minimum=1)
    noise: float = setting(0.3, "Rate of each kind of dropout.", minimum=0, less_than=1)
    penalty: float = setting(0.1, "On the activations.", minimum=0)
    bidirectional: bool = setting(True, "Both directions.")
    pooling: str = setting("concat", "All.")
    layers: int = setting(1, "LSTMs.")
    classes: int = setting(2, "Classes.")


def columns(examples: int, classes: int = 2) -> tuple[dict[str, np.ndarray], np.ndarray]:
    draw = np.random.default_rng(3)
    lengths = draw.integers(1, LONGEST, examples).astype(np.int32)
    tokens = draw.integers(1, VOCABULARY, (examples, 24)).astype(np.int32)
    tokens[np.arange(24) >= lengths[:, None]] = 0
    return {"tokens": tokens, "y": draw.integers(0, classes, examples).astype(np.int32)}, lengths


def batches(examples: int, batch_size: int, seed: int | None = None, classes: int = 2) -> Batches:
    found, lengths = columns(examples, classes)
    return Batches(found, batch_size, seed, lengths, (12, 24), ("tokens",))


def build(config: ReadingConfig) -> Experiment:
    noise = dict.fromkeys(("dropout", "input_dropout", "embedding_dropout", "weight_dropout"), config.noise)
    network = lstm.classifier(
        VOCABULARY, config.classes, width=4, units=5, layers=config.layers, bidirectional=config.bidirectional,
        pooling=config.pooling, **noise,
    )  # fmt: skip
    penalties = config.penalty, config.penalty
    names = [f"class{number}" for number in range(config.classes)]
    return Experiment(
        model=network.model,
        forward=functools.partial(lstm_sentiment.forward, network=network, penalties=penalties),
        train=batches(config.examples, config.batch_size, config.seed, config.classes),
        evals={"eval": batches(13, 4, classes=config.classes)},
        tests={"test": batches(11, 4, classes=config.classes)},
        objective=("loss", "activation") if config.penalty else ("loss",),
        compute_metrics=evaluation_report.classifier(names),
        head=lstm.HEAD,
        compile="cores",
        model_info={"task": "classification", "classes": names, "input": "text"},
    )


if __name__ == "__main__":
    zoo.main(build, ReadingConfig, workdir="runs/reading")
