"""--l2_sp, --stochastic_depth: by NumPy's formulas, the same bits on several devices, and nothing in evaluations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers.small import SmallConfig, build, train
from zoo import randomness
from zoo.engine import devices, regularization
from zoo.models import convnet, transformer
from zoo.models.hugging_face.config import Shape
from zoo.training.run import make_engine

SP = SmallConfig(l2_sp=0.3, optimizer="sgd", compile="none", learning_rate=0.1)


def test_l2_sp_by_numpy():
    strategy = devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(8, "tanh"), keras.layers.Dense(5, "tanh"), keras.layers.Dense(3, name="head")]
        experiment = build(SP)._replace(model=keras.Sequential([keras.Input((6,)), *layers]), head=["head"])
    engine = make_engine(strategy, SP, experiment, 3)
    first = engine.state()
    pulled = [name for name in first if name.startswith("start/")]
    # Matrices of all layers but the head.
    assert len(pulled) == 2 and all(name.endswith("kernel") for name in pulled)
    assert engine.train(experiment.train, 0, 1)["penalty"][0] == 0.0
    now = engine.state()
    distances = [now[name.replace("start/", "model/")] - first[name.replace("start/", "model/")] for name in pulled]
    assert all(np.array_equal(now[name], first[name.replace("start/", "model/")]) for name in pulled)
    found = engine.train(experiment.train, 1, 1)["penalty"][0]
    assert found == pytest.approx(0.3 * sum(np.sum(np.square(each)) for each in distances), rel=1e-5)
    # Its gradient: from there on, with a loss of none, weights come back by 2 * 0.3 * rate of the distance.
    value = regularization.penalty(experiment.model, 0.0, 0.0, engine._start)
    engine.load(now)
    variables = [variable.value for variable in engine._start.variables]
    _, gradients = regularization.gradients(value, variables)
    for gradient, distance in zip(gradients, distances, strict=True):
        np.testing.assert_allclose(gradient.numpy(), 0.6 * distance, rtol=1e-5, atol=1e-7)
    assert regularization.start(strategy, experiment.model, 0.0) is None


def test_l2_sp_on_two_devices_the_same_bits():
    config = SP.replace(slices=2)
    one, two = train(config), train(config, 2)
    assert one[1]["penalty"][-1] > 0
    assert all(np.array_equal(one[0][name], two[0][name]) for name in one[0])


def test_the_start_is_that_of_the_loaded_weights_and_resumes():
    engines = []
    for seed in (0, 1):
        strategy = devices.strategy("cpu")
        with strategy.scope():
            keras.utils.set_random_seed(seed)
            experiment = build(SP)
        engines.append(make_engine(strategy, SP, experiment, 3))
    one, other = engines
    # As --init_from does.
    one.load_model({name: value + 1.0 for name, value in one.state().items() if name.startswith("model/")})
    one.restart_averages()
    state = one.state()
    starts = [name for name in state if name.startswith("start/")]
    assert len(starts) == 3
    assert all(np.array_equal(state[name], state[name.replace("start/", "model/")]) for name in starts)
    one.train(experiment.train, 0, 2)
    # A resumed run has that start, whatever it would begin with today.
    other.load(one.state())
    assert all(np.array_equal(other.state()[name], state[name]) for name in starts)


def kept(stream, rows, rate, first=0):
    """1 / (1 - rate) where a row is kept by a draw of step 5, else 0: `[rows, 1, 1]`."""
    bits = randomness.bits((rows, 1, 1), randomness.stream_key(3, tf.constant(5), stream), first).numpy()
    return (bits >= rate * 2**32) / (1 - rate)


@pytest.mark.parametrize("half", ["outer", "output"])
def test_stochastic_depth_by_numpy(half):
    """A block of which one of the two sub-layers adds nothing, so that what the other one adds can be read."""
    x = np.random.default_rng(0).normal(size=(64, 3, 8)).astype(np.float32)
    seen = np.ones((64, 3), bool)
    block = transformer.Block(2, 16, norm_first=True, stochastic_depth=0.25)
    block(x, seen)
    for name in ("qkv", "output", "inner", "outer"):
        kernel = getattr(block, f"{name}_kernel")
        kernel.assign(tf.zeros_like(kernel) if name == half else 10 * kernel)
    adds = block(x, seen)[0].numpy() - x
    stream = {"outer": 1, "output": 2}[half]
    expected = x + kept(stream, 64, 0.25) * adds
    for first, last in ((0, 64), (16, 48)):
        with randomness.scope(3, tf.constant(5), tf.constant(first)):
            found, _ = block(x[first:last], seen[first:last], training=True)
        np.testing.assert_allclose(found, expected[first:last], rtol=1e-5, atol=1e-6)
    assert 0 < np.mean(kept(stream, 64, 0.25) == 0) < 0.5 and np.abs(adds).max() > 0.01


def test_stochastic_depth_of_images_on_two_devices_the_same_bits():
    """As in the network for images; a block of an encoder draws by row, as the test above shows."""
    config, found = SP.replace(slices=2, l2_sp=0.0), []
    for replicas in (1, 2):
        strategy = devices.mirrored_cpus(replicas) if replicas > 1 else devices.strategy("cpu")
        with strategy.scope():
            keras.utils.set_random_seed(0)
            inputs = keras.Input((6,))
            branch = keras.layers.Dropout(0.4, noise_shape=(None, 1))(keras.layers.Dense(6)(inputs))
            outputs = keras.layers.Dense(3)(keras.layers.Add()([inputs, branch]))
            experiment = build(config)._replace(model=keras.Model(inputs, outputs))
        engine = make_engine(strategy, config, experiment, 3)
        engine.train(experiment.train, 0, 3)
        found.append(engine.state())
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_the_last_block_is_skipped_most():
    shape = Shape(30, width=8, layers=4, heads=2, inner=16, positions=9)
    encoder = transformer.encoder(shape, stochastic_depth=0.2)
    rates = [layer.stochastic_depth for layer in encoder.layers if isinstance(layer, transformer.Block)]
    assert rates == pytest.approx([0.05, 0.1, 0.15, 0.2])
    again = keras.Model.from_config(encoder.get_config())
    assert [layer.stochastic_depth for layer in again.layers if isinstance(layer, transformer.Block)] == rates
    network = convnet.residual_network((8, 8), 2, 2, 2, stochastic_depth=0.3)
    dropouts = [layer for layer in network.layers if isinstance(layer, keras.layers.Dropout)]
    assert [layer.rate for layer in dropouts] == pytest.approx(np.linspace(0.05, 0.3, 6))
    assert {layer.noise_shape for layer in dropouts} == {(None, 1, 1, 1)}
