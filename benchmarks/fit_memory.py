"""Memory of `zoo.fit` while it trains on a dataset that is larger than an eighth of the free memory.

    python -m benchmarks.fit_memory                      # 8 GB of images as a tf.data.Dataset, two epochs
    python -m benchmarks.fit_memory --gigabytes=1 --free=0.4
    python -m benchmarks.fit_memory --gigabytes=1 --free=100   # the same in memory

`--free` takes the place of the free memory, in GB. The figure is the growth of the process' peak resident memory, with
the pages of files that are mapped, over the peak of a small run before, which compiles the same step; both in MB.
"""

import argparse
import json
import resource
import time

import keras
import numpy as np
import tensorflow as tf

import zoo
from zoo import memory

BATCH_SIZE, PIXELS, CLASSES = 128, 3072, 10
_GIGABYTE, _MEGABYTE, _KILOBYTE = 10**9, 10**6, 1024


def network() -> keras.Model:
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Dense(32, "relu"), keras.layers.Dense(CLASSES)]
    model = keras.Sequential([keras.Input((PIXELS,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, metrics=["accuracy"])
    return model


def dataset(batches: int) -> tf.data.Dataset:
    """Random images, uint8 `[batch, 3072]`, each batch a function of its number."""

    def batch(number):
        pixels = tf.random.stateless_uniform((BATCH_SIZE, PIXELS), tf.stack([number, 0]), 0, 256, tf.int32)
        classes = tf.random.stateless_uniform((BATCH_SIZE,), tf.stack([number, 1]), 0, CLASSES, tf.int32)
        return tf.cast(pixels, tf.uint8), classes

    return tf.data.Dataset.range(batches).map(batch, num_parallel_calls=2).prefetch(2)


def peak() -> float:
    """The peak of the process' resident memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KILOBYTE / _MEGABYTE


def left_over() -> int:
    """Files without a name that are still mapped, as those of a spool."""
    with open("/proc/self/maps") as maps:
        return sum("(deleted)" in line for line in maps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=8.0, help="size of the dataset")
    parser.add_argument("--free", type=float, help="free memory to assume, in GB; the real one by default")
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.free is not None:
        memory.available = lambda: int(arguments.free * _GIGABYTE)
    keras.utils.set_random_seed(0)
    zoo.fit(network(), dataset(16), verbose=0)
    before, started, mapped = peak(), time.perf_counter(), left_over()
    batches = int(arguments.gigabytes * _GIGABYTE / (BATCH_SIZE * (PIXELS + 4)))
    model = network()
    history = zoo.fit(model, dataset(batches), epochs=arguments.epochs)
    figures = {
        "examples": batches * BATCH_SIZE,
        "gigabytes": arguments.gigabytes,
        "peak_before_mb": round(before),
        "growth_mb": round(peak() - before),
        "seconds": round(time.perf_counter() - started, 1),
        "left_over": left_over() - mapped,
        "loss": history.history["loss"],
        "weights": float(sum(np.abs(each).sum() for each in model.get_weights())),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
