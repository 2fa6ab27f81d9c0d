"""Speed of `zoo.fit` beside an experiment of the same network, and beside `model.fit`.

    python -m benchmarks.keras_fit            # 20,000 random images, 10 epochs, 5 rounds
    python -m benchmarks.keras_fit --rounds=1 --examples=512 --epochs=3

A 784-64-64-10 classifier with dropout, batch size 128, Adam, accuracy. The contenders take turns in one process; the
figure is the median time of an epoch but the first, which compiles, and its ratio to that of the experiment in the same
round.
"""

import argparse
import statistics
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf

import zoo

BATCH_SIZE = 128
layers = keras.layers


def data(examples: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return draw.random((examples, 784)).astype(np.float32), draw.integers(0, 10, examples)


def network() -> keras.Model:
    body = [layers.Dense(64, "relu"), layers.Dropout(0.3), layers.Dense(64, "relu"), layers.Dense(10)]
    return keras.Sequential([keras.Input((784,)), *body])


def compiled() -> keras.Model:
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
    return model


def forward(model, batch, training):
    logits = model(batch["x"], training=training)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"], logits)
    correct = tf.argmax(logits, axis=-1) == batch["y"]
    return {"loss": zoo.Term(loss), "accuracy": zoo.Term(tf.cast(correct, tf.float32))}


def experiment(x: np.ndarray, y: np.ndarray, epochs: int) -> list[float]:
    """Moments of the ends of the epochs."""
    ends: list[float] = []

    def build(config):
        train = zoo.Batches({"x": x, "y": y}, config.batch_size, seed=config.seed)
        optimizer = keras.optimizers.Adam()
        on_log = lambda step, metrics, writer: ends.append(time.perf_counter())  # noqa: E731
        return zoo.Experiment(network(), forward, train, optimizer=optimizer, on_log=on_log)

    steps = -(-len(x) // BATCH_SIZE)
    config = zoo.Config(steps=epochs * steps, batch_size=BATCH_SIZE, log_every=steps, graph=False)
    with tempfile.TemporaryDirectory() as folder:
        zoo.run(build, config, folder)
    return ends


def fitted(fit) -> list[float]:
    ends: list[float] = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter()))
    fit([callback])
    return ends


def zoo_fit(x: np.ndarray, y: np.ndarray, epochs: int) -> list[float]:
    given = {"batch_size": BATCH_SIZE, "epochs": epochs, "verbose": 0}
    return fitted(lambda callbacks: zoo.fit(compiled(), x, y, callbacks=callbacks, **given))


def model_fit(x: np.ndarray, y: np.ndarray, epochs: int) -> list[float]:
    given = {"batch_size": BATCH_SIZE, "epochs": epochs, "verbose": 0}
    return fitted(lambda callbacks: compiled().fit(x, y, callbacks=callbacks, **given))


CONTENDERS = {"experiment": experiment, "zoo.fit": zoo_fit, "model.fit": model_fit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    x, y = data(arguments.examples)
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(arguments.rounds):
        for name, contender in CONTENDERS.items():
            ends = contender(x, y, arguments.epochs)
            seconds[name].append(statistics.median(np.diff(ends)))
    for name, values in seconds.items():
        ratio = statistics.median(own / base for own, base in zip(values, seconds["experiment"], strict=True))
        print(f"{name:12} {arguments.examples / statistics.median(values):10,.0f} examples/s  {ratio:.2f} x the time")


if __name__ == "__main__":
    main()
