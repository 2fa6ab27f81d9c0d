"""Study of the rows that a batch normalisation averages over: Keras' own `fit`, and groups of rows in the engine.

    python -m benchmarks.batch_norm --out=runs/batch_norm

A small residual network on Fashion-MNIST (TFDS), in batches of 128 with Adam and a cosine schedule. Each seed draws
its training images, first weights and order; nothing is chosen during a run. `fit` and `whole batch` normalise by the
128 rows, the others by groups of neighbouring rows (`batch_norm_group`); 32 is the default of this batch size. The
validation accuracy is there to choose a default by; the test split is only reported. Logistic regression learns from
the same images.

Printed are means over the seeds in % and half their 95 % intervals (Student's t), and the lead over `fit` of the same
seed with half its interval. Results are kept in `--out`, one file for each model and seed, and not computed again.
"""

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.data.splits import Columns, Splits

BATCH = 128
LINEAR, FIT = "logistic regression", "Keras' `fit`"
# Rows per group of `zoo.fit`, by the name of the row; 0 is the default.
GROUPS = {"whole batch": BATCH, "groups of 32, the default": 0, "groups of 16": 16, "groups of 8": 8}
_RATE = 2e-3
_WIDTHS = (16, 32, 64)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--images", type=int, default=10_000, help="training images of each seed")
    parser.add_argument("--dataset", default="fashion_mnist", help="images as experiments.mlp_classifier names them")
    options = parser.parse_args(arguments)
    from zoo.data.datasets import images

    data = images.load(options.dataset)
    results: dict[str, list[dict]] = {name: [] for name in (LINEAR, FIT, *GROUPS)}
    for seed in range(options.seeds):
        drawn = subset(data, seed, options.images)
        for name, done in results.items():
            done.append(outcome(options.out / f"{_file(name)}-{seed}.json", name, drawn, seed, options.epochs))
            print(f"seed {seed}, {name}: {done[-1]}", flush=True)
    print("\n".join(table(results)))


def subset(data: Splits, seed: int, images: int) -> Splits:
    """The splits with some of the training images, drawn at random; images float32 `[images, side, side, channels]`."""
    chosen = np.random.default_rng(seed).permutation(len(data.train["y"]))[:images]

    def scaled(columns: Columns) -> Columns:
        x = columns["x"].astype(np.float32) / data.scale
        return {"x": x.reshape(*x.shape[:3], -1), "y": columns["y"]}

    train = {name: column[chosen] for name, column in data.train.items()}
    parts = {"train": train, "validation": data.validation, "test": data.test}
    return dataclasses.replace(data, **{name: scaled(columns) for name, columns in parts.items()}, scale=1.0)


def outcome(path: Path, name: str, data: Splits, seed: int, epochs: int) -> dict[str, float]:
    """Accuracies on the validation and the test split, and seconds of the training; read from `path` if it is there."""
    if path.exists():
        return json.loads(path.read_text())
    found = _linear(data) if name == LINEAR else _network(name, data, seed, epochs)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1))
    return found


def _linear(data: Splits) -> dict[str, float]:
    from zoo.metrics import linear_baselines

    start = time.perf_counter()
    predicted = linear_baselines.linear_predictions(data)
    # Its strength is chosen on the validation split, whose accuracy would flatter it.
    return {"test": float(np.mean(predicted == data.test["y"])), "seconds": time.perf_counter() - start}


def _network(name: str, data: Splits, seed: int, epochs: int) -> dict[str, float]:
    import keras

    import zoo

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    x, y = data.train["x"], data.train["y"]
    model = network(x.shape[1:], len(data.classes), epochs * math.ceil(len(y) / BATCH))
    start = time.perf_counter()
    if name == FIT:
        model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)
    else:
        zoo.fit(model, x, y, batch_size=BATCH, epochs=epochs, verbose=0, seed=seed, batch_norm_group=GROUPS[name])
    seconds = time.perf_counter() - start
    parts = {"validation": data.validation, "test": data.test}
    found = {part: model.evaluate(each["x"], each["y"], 500, verbose=0)[1] for part, each in parts.items()}
    return {**found, "seconds": seconds}


def network(shape: tuple[int, ...], classes: int, steps: int):
    """A compiled residual network (He et al., 2016) of three blocks; the first layer and two blocks halve the side."""
    import keras

    layers = keras.layers
    inputs = keras.Input(shape)
    x = layers.Conv2D(_WIDTHS[0], 3, 2, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for index, width in enumerate(_WIDTHS):
        x = _block(x, width, 2 if index else 1)
    model = keras.Model(inputs, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))
    rate = keras.optimizers.schedules.CosineDecay(_RATE, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"], jit_compile=False)
    return model


def _block(x, width: int, strides: int):
    from keras import layers

    y = layers.Conv2D(width, 3, strides, padding="same", use_bias=False)(x)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    y = layers.BatchNormalization()(layers.Conv2D(width, 3, padding="same", use_bias=False)(y))
    if strides > 1:
        x = layers.BatchNormalization()(layers.Conv2D(width, 1, strides, use_bias=False)(x))
    return layers.ReLU()(layers.Add()([x, y]))


def table(results: dict[str, list[dict]]) -> list[str]:
    """Lines of the table, from the outcomes of the seeds by the name of the row."""
    lines = ["| | validation | test | lead over `fit`, validation | lead over `fit`, test |", "|---" * 5 + "|"]
    for name, outcomes in results.items():
        cells = [_interval([100 * each[part] for each in outcomes if part in each]) for part in ("validation", "test")]
        for part in ("validation", "test"):
            pairs = zip(outcomes, results[FIT], strict=True)
            leads = [100 * (own[part] - fit[part]) for own, fit in pairs if part in own and name != FIT]
            cells.append(_interval(leads, "+.2f"))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _interval(values: Sequence[float], form: str = ".2f") -> str:
    """The mean, and half its 95 % interval where there are two values or more."""
    from scipy import stats

    if not values:
        return ""
    mean, count = np.mean(values), len(values)
    if count < 2:
        return f"{mean:{form}}"
    return f"{mean:{form}} ± {stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count):.2f}"


def _file(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


if __name__ == "__main__":
    main()
