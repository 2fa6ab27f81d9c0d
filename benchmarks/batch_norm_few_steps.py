"""Accuracy of a small network with batch normalisation after few steps, by Keras' `fit` and by `zoo.fit`.

    python -m benchmarks.batch_norm_few_steps

Digits of 8 x 8 (scikit-learn) in batches of 32 rows, which are one group in the engine, too. Printed are the least, the
mean and the largest accuracy in % on 397 other digits over eight seeds of weights and order. Two minutes on two cores.
"""

import keras
import numpy as np
from sklearn.datasets import load_digits

import zoo

_EPOCHS, _SEEDS, _TRAIN, _BATCH = (3, 5, 10), 8, 1400, 32


def main() -> None:
    """Prints the table."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).reshape(-1, 8, 8, 1).astype(np.float32)
    print("| epochs | steps | share of the first values | `fit` | `zoo.fit` |\n|---|---|---|---|---|")
    for epochs in _EPOCHS:
        steps = epochs * -(-_TRAIN // _BATCH)
        found = np.array([_accuracies(x, y, epochs, seed) for seed in range(_SEEDS)])
        cells = [f"{100 * each.min():.0f}, {100 * each.mean():.0f}, {100 * each.max():.0f}" for each in found.T]
        print(f"| {epochs} | {steps} | {0.99**steps:.2f} | {' | '.join(cells)} |", flush=True)


def _accuracies(x: np.ndarray, y: np.ndarray, epochs: int, seed: int) -> list[float]:
    models = [_network(seed) for _ in range(2)]
    arguments = {"epochs": epochs, "batch_size": _BATCH, "verbose": 0}
    models[0].fit(x[:_TRAIN], y[:_TRAIN], **arguments)
    zoo.fit(models[1], x[:_TRAIN], y[:_TRAIN], seed=seed, **arguments)
    return [model.evaluate(x[_TRAIN:], y[_TRAIN:], verbose=0)[1] for model in models]


def _network(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers, stack = keras.layers, [keras.Input((8, 8, 1))]
    for width in (16, 32):
        stack += [layers.Conv2D(width, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU()]
    model = keras.Sequential([*stack, layers.GlobalAveragePooling2D(), layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"], jit_compile=False)
    return model


if __name__ == "__main__":
    main()
