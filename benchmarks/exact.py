"""What an exact run (`--exact`) costs: seconds per step beside those of a run whose sums may take any order.

    python -m benchmarks.exact
    python -m benchmarks.exact --models=mlp,cnn --rounds=15

Four models: the 784-64-64-10 classifier with batches of 128, a small convolutional network with batches of 128 images,
an LSTM of 64 units on 120 tokens with batches of 32, and an encoder of 2 layers, width 128, on 64 tokens, with batches
of 32. Each is trained on one device, whole and in four micro-batches, and on two and four logical CPU devices; exactly
(on one device in four slices, on several in one each, as is their default), and not. The figure is the ratio of the
medians of the seconds per step, and in brackets the quartiles of the ratio of neighbouring measurements, which
alternate in one process. Logical devices share the cores: what four real devices pay for gathering their gradients is
not measured here. Ten minutes on two cores.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from zoo import Batches, Config, Experiment, Term
from zoo.engine import devices
from zoo.engine.engine import Engine
from zoo.models import encoder_heads, lstm, transformer
from zoo.models.hugging_face.config import Shape
from zoo.training import run

_EXAMPLES, _TOKENS = 2048, 10_000
# Replicas and micro-batches of the run that is not exact.
_CASES = {"one device": (1, 1), "one device, 4 micro-batches": (1, 4), "2 devices": (2, 1), "4 devices": (4, 1)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exact", description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(_MODELS), help="some of them, with commas")
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each run")
    parser.add_argument("--seconds", type=float, default=0.5, help="least length of a measurement")
    options = parser.parse_args(arguments)
    print(f"| model | {' | '.join(_CASES)} |\n|---{'|---' * len(_CASES)}|")
    for model in options.models.split(","):
        cells = [_ratio(_MODELS[model], *case, options.rounds, options.seconds) for case in _CASES.values()]
        print(f"| {model} | {' | '.join(cells)} |", flush=True)


def _ratio(experiment: Callable, replicas: int, accumulate: int, rounds: int, seconds: float) -> str:
    engines = [_engine(experiment, replicas, accumulate, exact) for exact in (True, False)]
    steps = max(_steps(*engine, seconds) for engine in engines)
    times = np.array([[_seconds(engine, batches, steps) for engine, batches in engines] for _ in range(rounds)])
    low, high = np.quantile(times[:, 0] / times[:, 1], [0.25, 0.75])
    ratio = np.median(times[:, 0]) / np.median(times[:, 1])
    return f"{ratio:.2f} ({low:.2f} to {high:.2f})"


def _engine(experiment: Callable, replicas: int, accumulate: int, exact: bool) -> tuple[Engine, Batches]:
    strategy = devices.mirrored_cpus(replicas) if replicas > 1 else devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(0)
        made = experiment()
    config = Config(
        steps=10**6, batch_size=made.train.batch_size, accumulate=accumulate, exact=exact, clip_norm=1.0,
        slices=4 if exact and replicas == 1 else replicas if exact else 0,
    )  # fmt: skip
    return run.make_engine(strategy, config, made, config.steps), made.train


def _steps(engine: Engine, batches: Batches, seconds: float) -> int:
    """Steps that last about so long; compiles the program first."""
    engine.train(batches, 0, 4)
    return max(1, round(4 * seconds / _seconds(engine, batches, 4)))


def _seconds(engine: Engine, batches: Batches, steps: int) -> float:
    start = time.perf_counter()
    engine.train(batches, 0, steps)
    return time.perf_counter() - start


def _mlp() -> Experiment:
    layers = [keras.Input((784,)), *(keras.layers.Dense(64, "relu") for _ in range(2)), keras.layers.Dense(10)]
    return _classifier(keras.Sequential(layers), _numbers(784), 10, 128)


def _cnn() -> Experiment:
    layers = [keras.Input((28, 28, 1))]
    for filters in (16, 32):
        layers += [keras.layers.Conv2D(filters, 3, activation="relu"), keras.layers.MaxPooling2D()]
    layers += [keras.layers.Flatten(), keras.layers.Dropout(0.3), keras.layers.Dense(10)]
    return _classifier(keras.Sequential(layers), _numbers(28, 28, 1), 10, 128)


def _lstm() -> Experiment:
    experiment = _classifier(lstm.classifier(_TOKENS, classes=2).model, _tokens(120), 2, 32)
    return experiment._replace(compile="cores")


def _encoder() -> Experiment:
    shape = Shape(_TOKENS, 128, 2, 2, inner=512, positions=64, segments=0, epsilon=1e-12)
    model = encoder_heads.classifier(transformer.encoder(shape), 2, dropout=0.1)
    return _classifier(model, _tokens(64), 2, 32)._replace(compile="islands")


_MODELS = {"mlp": _mlp, "cnn": _cnn, "lstm": _lstm, "encoder": _encoder}


def _numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random((_EXAMPLES, *shape), dtype=np.float32)


def _tokens(time: int) -> np.ndarray:
    return np.random.default_rng(0).integers(5, _TOKENS, (_EXAMPLES, time)).astype(np.int32)


def _classifier(model: keras.Model, x: np.ndarray, classes: int, batch_size: int) -> Experiment:
    y = np.random.default_rng(1).integers(0, classes, len(x)).astype(np.int32)

    def forward(model: keras.Model, batch: dict[str, tf.Tensor], training: bool) -> dict[str, Term]:
        logits = model(batch["x"], training=training)
        if classes == 2:
            values = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(batch["y"], tf.float32), logits[:, 0])
        else:
            values = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"], logits)
        return {"loss": Term(values)}

    return Experiment(model, forward, Batches({"x": x, "y": y}, batch_size))


if __name__ == "__main__":
    main()
