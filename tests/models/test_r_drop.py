"""R-Drop: the paper's loss and its gradient, other noise in each pass, and the engine's promises with it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, rel_entr, softmax

import zoo
from experiments import mlp_classifier, mlp_multilabel
from tests.helpers import small
from tests.helpers.small import SmallConfig, furthest
from tests.training.test_resume import as_if_killed, final_state, untimed
from zoo import Output, Term, randomness
from zoo.engine import devices
from zoo.errors import BadInput
from zoo.models import class_imbalance, r_drop
from zoo.training.run import make_engine, total_steps

ALPHA = 1.5


def logits(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape, scale=2.0).astype(np.float32)


def both_ways(p, q):
    """Equation 2 of Wu et al."""
    return 0.5 * (rel_entr(p, q) + rel_entr(q, p)).sum(axis=-1)


def test_divergences_by_scipy():
    one, other = logits(0, 7, 3, 5), logits(1, 7, 3, 5)
    p, q = (softmax(each.astype(np.float64), axis=-1) for each in (one, other))
    np.testing.assert_allclose(r_drop.of_classes(one, other), both_ways(p, q), rtol=1e-5)
    p, q = (np.stack([1 - p, p], axis=-1) for p in (expit(one.astype(np.float64)), expit(other.astype(np.float64))))
    np.testing.assert_allclose(r_drop.of_labels(one, other), both_ways(p, q).mean(axis=-1), rtol=1e-5)
    # One logit for two classes is two with 0 for the first.
    found = r_drop.of_classes(one[..., :1], other[..., :1])
    np.testing.assert_allclose(found, both_ways(p, q)[..., 0], rtol=1e-5)
    # Of two normal distributions of variance 1: the mean of (x - b)^2 / 2 - (x - a)^2 / 2 over x around a.
    found = r_drop.of_values(one[..., :1], other[..., :1])
    np.testing.assert_allclose(found, (one - other)[..., 0] ** 2 / 2, rtol=1e-5)
    for divergence in (r_drop.of_classes, r_drop.of_labels):
        assert not np.any(divergence(one, one))
        assert np.isfinite(divergence(1e4 * one, -1e4 * one)).all()


def paper(one, other, labels):
    """Equation 4, the mean over the examples."""
    p, q = softmax(one, axis=-1), softmax(other, axis=-1)
    rows = np.arange(len(labels))
    return np.mean(-np.log(p[rows, labels]) - np.log(q[rows, labels]) + ALPHA * both_ways(p, q))


def slopes(function, x, width=1e-6):
    """By central differences."""
    found = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = width
        found[index] = (function(x + step) - function(x - step)) / (2 * width)
    return found


def test_loss_and_gradient_are_half_of_the_papers():
    labels = np.array([0, 2, 1, 2, 0], np.int32)
    passes = [tf.constant(logits(seed, 5, 3)) for seed in (0, 1)]
    calls = []

    def forward(model, batch, training):
        calls.append(training)
        z = passes[len(calls) - 1]
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, z)
        return {"loss": Term(loss), "logits": Output(z)}

    with tf.GradientTape() as tape:
        tape.watch(passes)
        terms = r_drop.regularized(forward, ALPHA)(None, {}, True)
        loss = tf.reduce_mean(terms["loss"].values) + tf.reduce_mean(terms["r_drop"].values)
    assert calls == [True, True]
    one, other = (each.numpy().astype(np.float64) for each in passes)
    assert float(loss) == pytest.approx(paper(one, other, labels) / 2, rel=1e-6)
    found = [each.numpy() for each in tape.gradient(loss, passes)]
    expected = slopes(lambda z: paper(z, other, labels), one), slopes(lambda z: paper(one, z, labels), other)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs / 2, rtol=1e-4, atol=1e-6)


def forward(model, batch, training):
    z = model(batch["x"], training=training)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"], z)
    return {"loss": Term(loss, batch.get("weight", 1.0)), "logits": Output(z)}


def build(config):
    changes = {"forward": r_drop.regularized(forward, ALPHA), "objective": ("loss", *r_drop.terms(ALPHA))}
    return small.build(config)._replace(**changes)


def test_each_pass_has_noise_of_its_own_by_seed_step_and_place():
    """Dropout alone, so that its masks are the logits' only difference."""
    x = np.abs(logits(2, 12, 4)) + 0.1
    layer = zoo.Dropout(0.5)
    batch = {"x": tf.constant(x), "y": tf.zeros([12], tf.int32)}
    keeps = [
        randomness.bits((12, 4), randomness.stream_key(7, tf.constant(3), stream)).numpy() >= 2**31 for stream in (1, 2)
    ]
    p, q = (softmax(np.where(keep, 2.0 * x, 0.0), axis=-1) for keep in keeps)
    expected = 0.5 * ALPHA * both_ways(p, q)
    for first, last in ((0, 12), (5, 9)):
        rows = {name: column[first:last] for name, column in batch.items()}
        with randomness.scope(7, tf.constant(3), tf.constant(first)):
            found = r_drop.regularized(forward, ALPHA)(layer, rows, True)
        np.testing.assert_allclose(found["r_drop"].values, expected[first:last], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found["loss"].values, -0.5 * np.log(p * q)[first:last, 0], rtol=1e-4)


CONFIG = SmallConfig(dropout=0.4, weighted=True, optimizer="adamw", clip_norm=0.5, compile="none")


def trained(config, replicas=1, build=build):
    strategy = devices.mirrored_cpus(replicas) if replicas > 1 else devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(config.seed)
        experiment = build(config)
    engine = make_engine(strategy, config, experiment, total_steps(config, experiment))
    scalars = engine.train(experiment.train, 0, total_steps(config, experiment))
    return engine, experiment, scalars


def test_the_same_run_on_devices_and_in_micro_batches():
    engine, experiment, scalars = trained(CONFIG)
    other, _, found = trained(CONFIG.replace(accumulate=3), replicas=2)
    assert furthest(engine.state(), other.state()) < 3e-6
    np.testing.assert_allclose(found["r_drop/numerator"], scalars["r_drop/numerator"], rtol=1e-4)
    assert np.all(scalars["r_drop/numerator"] > 0)
    # Evaluations have one pass without noise.
    means, columns = engine.evaluate(experiment.evals["eval"]), small.data(11)
    log_p = tf.nn.log_softmax(experiment.model(columns["x"])).numpy()[np.arange(11), columns["y"]]
    assert means == pytest.approx({"loss": -log_p.mean()}, rel=1e-5)


def test_an_exact_run_has_the_same_bits_on_two_devices():
    """With the statistics of two passes."""
    config = CONFIG.replace(slices=2, norm="batch", batch_size=8, epochs=0, steps=2)
    one, two = trained(config)[0].state(), trained(config, 2)[0].state()
    assert all(np.array_equal(value, two[name]) for name, value in one.items())


def test_resumes_bitwise(tmp_path):
    config = CONFIG.replace(epochs=0, steps=4, checkpoint_every=1, keep=10, export="last")
    result = zoo.run(build, config, tmp_path / "whole")
    folder = as_if_killed(tmp_path / "whole", tmp_path, 2)
    assert untimed(zoo.run(build, config, folder)) == untimed(result)
    expected, found = final_state(tmp_path / "whole", 4), final_state(folder, 4)
    assert all(np.array_equal(value, found.state[name]) for name, value in expected.state.items())


def test_what_is_refused():
    with pytest.raises(BadInput, match=r"--r_drop=1\.5 without noise in the network: both passes .*set --dropout"):
        trained(CONFIG.replace(dropout=0.0))
    with pytest.raises(BadInput, match=r"calls the model 2 times in training, expected once, .* use --optimizer=lbfgs"):
        trained(CONFIG.replace(optimizer="newton_cg", learning_rate=1.0, clip_norm=0.0, epochs=0, steps=1))
    assert r_drop.regularized(forward, 0.0) is forward and r_drop.terms(0.0) == ()


def test_members_of_an_ensemble_and_methods_for_rare_classes():
    """Each member is compared with itself; the divergence needs no class, so that it counts the same for all."""
    labels, weights = np.array([0, 2, 1, 2], np.int32), np.array([1.0, 2.0, 0.0, 0.5], np.float32)
    passes = [logits(seed, 4, 6, 3) for seed in (3, 4)]  # [batch, members, classes]
    batch = {"x": tf.zeros([4, 1]), "y": tf.constant(labels), "weight": tf.constant(weights)}
    p, q = (softmax(each.astype(np.float64), axis=-1) for each in passes)
    for method in class_imbalance.METHODS:
        imbalance = class_imbalance.make(method, np.array([0, 0, 0, 1, 1, 2]), 3)
        losses = []

        def once(model, batch, training, given=passes, imbalance=imbalance, losses=losses):
            ensemble = lambda x, training: tf.constant(given[len(losses)])  # noqa: E731
            terms = mlp_classifier.forward(model, batch, training, 0.1, ensemble, imbalance)
            losses.append(terms["loss"].values.numpy())
            return terms

        found = r_drop.regularized(once, ALPHA)(None, batch, True)
        expected = 0.5 * ALPHA * both_ways(p, q).mean(axis=1)
        np.testing.assert_allclose(found["r_drop"].values, expected, rtol=1e-5)
        np.testing.assert_array_equal(found["r_drop"].weights, weights)
        np.testing.assert_allclose(found["loss"].values, np.mean(losses, axis=0), rtol=1e-6)
        assert len(losses) == 2


@pytest.mark.parametrize("module", [mlp_classifier, pytest.param(mlp_multilabel, marks=pytest.mark.thorough)])
def test_tables(module, tmp_path):
    """The flag, in networks of several members."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(80, 3)).astype(np.float32)
    y = (x[:, :2] > 0).astype(np.int32) if module is mlp_multilabel else (x[:, 0] > 0).astype(np.int32)
    np.savez(tmp_path / "table.npz", x=x, y=y)
    kind = mlp_multilabel.MultilabelConfig if module is mlp_multilabel else mlp_classifier.MlpConfig
    config = kind(
        dataset=str(tmp_path / "table.npz"), r_drop=ALPHA, members=2, hidden=(4,), bins=2, baseline=False, epochs=0,
        steps=3, batch_size=8, compile="none", optimizer="sgd", learning_rate=1.0, schedule="constant",
    )  # fmt: skip
    _, experiment, scalars = trained(config, 2, module.build)
    assert experiment.objective == ("loss", "r_drop")
    # The network begins as a linear model without dropout.
    assert scalars["r_drop/numerator"][0] == 0.0 and scalars["r_drop/numerator"][-1] > 1e-5
