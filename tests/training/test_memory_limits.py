"""Models, batches and lengths that no machine can hold are one line, at once."""

import re

import keras
import numpy as np
import pytest

from tests.helpers.small import SmallConfig
from zoo import memory
from zoo.data.batches import Batches
from zoo.errors import BadInput
from zoo.models import mlp
from zoo.training import memory_limits
from zoo.training.run import total_steps


@pytest.mark.parametrize("hidden", [(10**11,), (8, 10**6, 10**6), (10**20,)])
def test_a_model_too_large_is_refused_before_it_is_made(hidden):
    original = keras.layers.Layer.add_weight
    with pytest.raises(BadInput, match=r"the model has .* weights or more, up to its layer .*: with their gradients"):
        with memory_limits.checked_weights():
            mlp.mlp((64,), 10, hidden)
    assert keras.layers.Layer.add_weight is original


def test_what_fits_is_built(monkeypatch):
    monkeypatch.setattr(memory, "total", lambda: 8 * 610)
    with memory_limits.checked_weights():
        assert mlp.mlp((64,), 10, (8,)).count_params() == 610
    monkeypatch.setattr(memory, "total", lambda: 8 * 610 - 1)
    with pytest.raises(BadInput, match=re.escape("the model has 610 weights or more")):
        with memory_limits.checked_weights():
            mlp.mlp((64,), 10, (8,))


def test_batches_and_steps_that_cannot_be():
    batches = Batches({"x": np.zeros((9, 64), np.uint8), "y": np.zeros(9)}, 10**12)
    config = SmallConfig(batch_size=10**12)
    with pytest.raises(BadInput, match=r"--batch_size is 1000000000000: one batch takes 260 TB, and this machine has"):
        memory_limits.check_batch(config, batches)
    memory_limits.check_batch(config, Batches(batches.columns, 100))

    class Built:
        train, config = Batches(batches.columns, 3), None

    with pytest.raises(BadInput, match=r"--epochs is 1e\+300: that is 3e\+300 steps, more than 64 bits can count"):
        total_steps(SmallConfig(steps=0, epochs=1e300), Built)


@pytest.mark.parametrize(("size", "said"), [(1, "1 B"), (999, "999 B"), (1500, "1.5 kB"), (4 * 10**12, "4.0 TB")])
def test_readable(size, said):
    assert memory.readable(size) == said and memory.total() > 10**8


def test_more_layers_than_keras_can_connect():
    with pytest.raises(BadInput, match="the model has more layers one after another than Keras can connect"):
        with memory_limits.checked_weights():
            # Without weights, which would take longer.
            x = inputs = keras.Input((2,))
            for _ in range(1200):
                x = keras.layers.Identity()(x)
            keras.Model(inputs, x)


def test_an_endless_recursion_of_another_kind_is_no_model():
    def endless():
        return endless()

    with pytest.raises(RecursionError), memory_limits.checked_weights():
        endless()
