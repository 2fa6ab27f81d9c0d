"""The mean of the weights (--swa), noise on the gradient, and the penalty on absolute weights."""

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import zoo
from tests.helpers.small import SmallConfig, build, furthest, train
from zoo.engine import devices, gradient_noise
from zoo.engine.state import averaged
from zoo.errors import BadInput
from zoo.training.run import make_engine

CONFIG = SmallConfig(epochs=0, steps=8, batch_size=29, optimizer="sgd", compile="none")


def kernels(state, prefix="model/"):
    return [state[name].astype(np.float64) for name in sorted(state) if name.startswith(prefix)]


def engine_of(config, steps):
    strategy = devices.strategy("cpu")
    with strategy.scope():
        experiment = build(config)
    return make_engine(strategy, config, experiment, steps), experiment.train


def test_mean_of_the_weights_of_the_last_steps():
    engine, batches = engine_of(CONFIG.replace(swa=0.5), 8)
    seen = []
    for step in range(8):
        engine.train(batches, step, 1)
        seen.append(kernels(engine.state()))
    found = kernels(averaged(engine.state()))
    for number, value in enumerate(found):
        expected = np.mean([weights[number] for weights in seen[4:]], axis=0)
        np.testing.assert_allclose(value, expected, atol=1e-6)


def test_before_it_begins_the_average_is_the_weights():
    engine, batches = engine_of(CONFIG.replace(swa=0.5), 8)
    engine.train(batches, 0, 4)
    for one, two in zip(kernels(averaged(engine.state())), kernels(engine.state()), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_a_run_exports_the_mean_and_resumes(tmp_path):
    config = CONFIG.replace(swa=0.5, show="none", graph=False, checkpoint_every=3)
    whole = zoo.run(build, config, tmp_path / "run")
    assert zoo.run(build, config, tmp_path / "run")["test/loss"] == whole["test/loss"]
    assert whole["test/loss"] != zoo.run(build, config.replace(swa=0.0), tmp_path / "plain")["test/loss"]
    with pytest.raises(BadInput, match=r"--ema is 0\.9 and --swa is 0\.5: expected one average"):
        config.replace(ema=0.9)
    with pytest.raises(BadInput, match="steps"):
        zoo.run(build, config.replace(steps=20), tmp_path / "run")


@pytest.mark.parametrize("options", [{"swa": 0.5}, {"gradient_noise": 0.3}, {"l1": 0.05}])
def test_any_devices_and_micro_batches(options):
    config = SmallConfig(compile="none", optimizer="sgd", clip_norm=0.5, dropout=0.2, **options)
    whole, _ = train(config)
    for replicas, accumulate in ((2, 2), (4, 1)):
        assert furthest(whole, train(config.replace(accumulate=accumulate), replicas)[0]) < 1e-5
    assert furthest(whole, train(config.replace(compile="loop"))[0]) < 1e-5
    plain, _ = train(config.replace(**dict.fromkeys(options, 0.0)))
    shared = plain.keys() & whole.keys()
    changed = {name for name in shared if not np.array_equal(plain[name], whole[name])}
    assert bool(changed) == ("swa" not in options)


def test_noise_is_normal_and_a_function_of_seed_step_and_stream():
    def draw(seed=1, step=5, stream=10):
        return gradient_noise.normal(tf.TensorShape([100, 200]), seed, tf.constant(step), stream).numpy()

    found = draw()
    np.testing.assert_array_equal(found, draw())
    assert stats.kstest(found.ravel(), "norm").pvalue > 1e-3
    for other in (draw(seed=2), draw(step=6), draw(stream=12)):
        assert abs(np.corrcoef(found.ravel(), other.ravel())[0, 1]) < 0.03
    assert gradient_noise.normal(tf.TensorShape([]), 1, tf.constant(0), 2).shape == ()


@pytest.mark.parametrize("step", [0, 9])
def test_noise_falls_as_in_the_paper(step):
    zeros = [tf.zeros([300, 100])]
    found = gradient_noise.added(zeros, 0.3, 0, tf.constant(step))[0].numpy()
    assert found.std() == pytest.approx(math.sqrt(0.3 / (1 + step) ** 0.55), rel=0.02)


def test_penalty_on_absolute_weights_is_that_of_numpy():
    config = CONFIG.replace(l1=0.01, l2=0.02)
    engine, batches = engine_of(config, 1)
    matrices = [value for value in kernels(engine.state()) if value.ndim == 2]
    scalars = engine.train(batches, 0, 1)
    expected = sum(0.01 * np.abs(value).sum() + 0.02 * (value**2).sum() for value in matrices)
    assert scalars["penalty"][0] == pytest.approx(expected, rel=1e-5)
