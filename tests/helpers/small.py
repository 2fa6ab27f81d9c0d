"""A small task that every feature of the engine can be tried on, and how to run it."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from zoo import Batches, Config, Dropout, Experiment, Term, setting
from zoo.engine import devices
from zoo.models.layers import BatchNorm
from zoo.training.run import make_engine, total_steps

WIDTH, CLASSES = 6, 3


@dataclasses.dataclass(frozen=True)
class SmallConfig(Config):
    epochs: float = setting(2.0, "Two, so that a run crosses an epoch's edge.", minimum=0, may_change=True)
    batch_size: int = setting(13, "Odd.", minimum=1)
    learning_rate: float = setting(0.02, "Large, so that a wrong step shows.", minimum=0)
    examples: int = setting(29, "Two full batches of 13 and a short one of 3.", minimum=1)
    dropout: float = setting(0.0, "Rate.", minimum=0, less_than=1)
    label_smoothing: float = setting(0.0, "Share.", minimum=0, less_than=1)
    weighted: bool = setting(False, "Weigh the examples.")
    norm: str = setting("", "layer, batch or none.")
    compile: str = setting(
        "none", "XLA would take most of the time of so few steps; tests of it ask for it.", may_change=True
    )


def data(examples: int, weighted: bool = False) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(7)
    columns = {
        "x": draw.normal(size=(examples, WIDTH)).astype(np.float32),
        "y": draw.integers(0, CLASSES, examples).astype(np.int32),
    }
    if weighted:
        columns["weight"] = draw.uniform(0.0, 3.0, examples).astype(np.float32)
    return columns


def forward(model, batch, training, label_smoothing=0.0):
    logits = model(batch["x"], training=training)
    target = tf.one_hot(batch["y"], CLASSES) * (1.0 - label_smoothing) + label_smoothing / CLASSES
    loss = tf.nn.softmax_cross_entropy_with_logits(target, logits)
    correct = tf.cast(tf.equal(tf.argmax(logits, -1, output_type=tf.int32), batch["y"]), tf.float32)
    weight = batch.get("weight", 1.0)
    return {"loss": Term(loss, weight), "accuracy": Term(correct, weight)}


def build(config: SmallConfig) -> Experiment:
    layers = [keras.Input((WIDTH,)), keras.layers.Dense(8, "tanh")]
    layers += {"": [], "layer": [keras.layers.LayerNormalization()], "batch": [BatchNorm(group=2)]}[config.norm]
    layers += [Dropout(config.dropout)] if config.dropout else []
    layers += [keras.layers.Dense(5, "tanh")]
    layers += [Dropout(config.dropout)] if config.dropout else []
    columns = data(config.examples, config.weighted)
    return Experiment(
        model=keras.Sequential([*layers, keras.layers.Dense(CLASSES)]),
        forward=lambda *given: forward(*given, label_smoothing=config.label_smoothing),
        train=Batches(columns, config.batch_size, seed=config.seed),
        evals={"eval": Batches(data(11), 4)},
        tests={"test": Batches(data(7), 4)},
    )


def train(config: SmallConfig, replicas: int = 1) -> tuple[dict, dict]:
    """The state and the scalars per step after all steps, on this many replicas."""
    strategy = devices.mirrored_cpus(replicas) if replicas > 1 else devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(config.seed)
        experiment = build(config)
    total = total_steps(config, experiment)
    engine = make_engine(strategy, config, experiment, total)
    found = engine.train(experiment.train, 0, total)
    return engine.state(), found


def furthest(left: dict, right: dict) -> float:
    """The largest difference of any number in two states."""
    assert left.keys() == right.keys()
    return max(float(np.max(np.abs(left[n].astype(np.float64) - right[n].astype(np.float64)), initial=0)) for n in left)
