"""The engine against plain NumPy, and its own errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers.small import CLASSES, SmallConfig, build, data, furthest, train
from zoo import Batches, Experiment, Term, terms
from zoo.engine import devices, health
from zoo.errors import BadInput, NonFinite
from zoo.training.run import make_engine


def engine_for(config, experiment_of=build, replicas=1):
    strategy = devices.mirrored_cpus(replicas) if replicas > 1 else devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(config.seed)
        experiment = experiment_of(config)
    return make_engine(strategy, config, experiment, 4), experiment


def numpy_run(weights, batches, steps, rate, l2, clip, decay, ema, smoothing):
    """The same network, loss and AdamW in float64, written from the formulas."""
    weights = [w.astype(np.float64) for w in weights]
    average = [w.copy() for w in weights]
    first, second = ([np.zeros_like(w) for w in weights] for _ in range(2))
    norms = []
    for step in range(steps):
        batch, rows = batches.at(step)
        example_weight = batch["weight"].astype(np.float64) * rows
        activations = [batch["x"].astype(np.float64)]
        for i in range(0, 4, 2):
            activations.append(np.tanh(activations[-1] @ weights[i] + weights[i + 1]))
        logits = activations[-1] @ weights[4] + weights[5]
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        target = np.eye(CLASSES)[batch["y"]] * (1 - smoothing) + smoothing / CLASSES
        delta = (p - target) * (example_weight / example_weight.sum())[:, None]
        gradients = [None] * 6
        for i in (4, 2, 0):
            gradients[i] = activations[i // 2].T @ delta + 2 * l2 * weights[i]
            gradients[i + 1] = delta.sum(0)
            delta = (delta @ weights[i].T) * (1 - activations[i // 2] ** 2)
        norm = np.sqrt(sum(np.sum(g**2) for g in gradients))
        norms.append(norm)
        for i, gradient in enumerate(gradients):
            g = gradient * min(1, clip / norm)
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.999 * second[i] + 0.001 * g**2
            update = rate * np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
            if weights[i].ndim == 2:
                weights[i] -= weights[i] * decay * rate
            weights[i] -= update * first[i] / (np.sqrt(second[i]) + 1e-7)
            share = 1 - min(ema, (2 + step) / (11 + step))
            average[i] += share * (weights[i] - average[i])
    return weights, average, norms


@pytest.mark.parametrize("compile", ["loop", "none"])
def test_against_numpy(compile):
    options = {"l2": 0.01, "clip_norm": 0.3, "ema": 0.95, "label_smoothing": 0.1, "weight_decay": 0.2}
    config = SmallConfig(optimizer="adamw", weighted=True, compile=compile, epochs=0, steps=9, **options)
    engine, experiment = engine_for(config)
    start = [variable.numpy() for variable in experiment.model.trainable_variables]
    found = engine.train(experiment.train, 0, 9)
    weights, average, norms = numpy_run(start, experiment.train, 9, 0.02, 0.01, 0.3, 0.2, 0.95, 0.1)
    for variable, expected in zip(experiment.model.trainable_variables, weights, strict=True):
        np.testing.assert_allclose(variable.numpy(), expected, atol=1e-5)
    for value, expected in zip(engine.task.averages, average, strict=True):
        np.testing.assert_allclose(value.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(found["gradient_norm"], norms, rtol=1e-4)
    assert max(norms) > 0.3, "clipping took part"


def test_against_the_loop_by_hand():
    """300 steps of Adam in one XLA program, beside a plain tape and Keras' own Adam on the same batches."""
    config = SmallConfig(epochs=0, steps=300, learning_rate=0.003, examples=26)
    engine, experiment = engine_for(config)
    model = keras.models.clone_model(experiment.model)
    model.set_weights(experiment.model.get_weights())
    optimizer = keras.optimizers.Adam(0.003)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def by_hand(x, y):
        with tf.GradientTape() as tape:
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x, training=True))
            loss = tf.reduce_mean(loss)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    losses = [float(by_hand(**experiment.train.at(step)[0])) for step in range(300)]
    found = engine.train(experiment.train, 0, 300)
    np.testing.assert_allclose(found["loss/numerator"] / found["loss/weight"], losses, atol=1e-5)
    for one, other in zip(model.trainable_variables, experiment.model.trainable_variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("replicas", [1, 4])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 29, 64])
def test_evaluation_counts_every_example_once(replicas, batch_size):
    engine, experiment = engine_for(SmallConfig(compile="none"), replicas=replicas)
    columns = data(29, weighted=True)
    found = engine.evaluate(Batches(columns, batch_size))
    logits = experiment.model(columns["x"]).numpy()
    loss = keras.losses.sparse_categorical_crossentropy(columns["y"], logits, from_logits=True).numpy()
    correct = logits.argmax(1) == columns["y"]
    assert found["loss"] == pytest.approx(np.average(loss, weights=columns["weight"]), rel=1e-5)
    assert found["accuracy"] == pytest.approx(np.average(correct, weights=columns["weight"]), rel=1e-5)


def two_losses(config):
    """Two terms whose weights differ by example, as in pretraining with two tasks; an embedding besides."""
    draw = np.random.default_rng(0)
    columns = {"x": draw.integers(0, 9, (29, 4)), "a": draw.normal(size=29), "b": draw.random((29, 4)) < 0.4}
    columns = {name: column.astype(np.int32 if name == "x" else np.float32) for name, column in columns.items()}
    model = keras.Sequential([keras.Input((4,), dtype="int32"), keras.layers.Embedding(9, 3), keras.layers.Dense(2)])

    def forward(model, batch, training):
        out = model(batch["x"], training=training)
        example = tf.square(tf.reduce_mean(out[..., 0], axis=1) - batch["a"])
        return {"example": Term(example), "token": Term(tf.square(out[..., 1] - 1.0), batch["b"])}

    return Experiment(model, forward, Batches(columns, 13, seed=0), objective=("example", "token"))


def test_two_losses_are_normalised_each_by_its_own_weight():
    config = SmallConfig(optimizer="sgd", compile="none", epochs=0, steps=3)
    engine, experiment = engine_for(config, two_losses)
    start = [variable.numpy() for variable in experiment.model.trainable_variables]
    engine.train(experiment.train, 0, 1)
    single = [variable.numpy() for variable in experiment.model.trainable_variables]
    for variable, value in zip(experiment.model.trainable_variables, start, strict=True):
        variable.assign(value)
    batch, _ = experiment.train.at(0)
    with tf.GradientTape() as tape:
        terms = experiment.forward(experiment.model, {n: tf.constant(v) for n, v in batch.items()}, True)
        token = tf.reduce_sum(terms["token"].values * batch["b"]) / batch["b"].sum()
        loss = tf.reduce_mean(terms["example"].values) + token
    gradients = tape.gradient(loss, [variable.value for variable in experiment.model.trainable_variables])
    for value, gradient, moved in zip(start, gradients, single, strict=True):
        np.testing.assert_allclose(value - 0.02 * tf.convert_to_tensor(gradient).numpy(), moved, atol=1e-6)


@pytest.mark.parametrize(("replicas", "accumulate", "compile"), [(2, 2, "none"), (4, 1, "step"), (1, 4, "loop")])
def test_two_losses_on_many_replicas(replicas, accumulate, compile):
    config = SmallConfig(optimizer="momentum", compile="none", epochs=0, steps=4)
    one, experiment = engine_for(config, two_losses)
    one.train(experiment.train, 0, 4)
    many, experiment = engine_for(config.replace(accumulate=accumulate, compile=compile), two_losses, replicas)
    many.train(experiment.train, 0, 4)
    assert furthest(one.state(), many.state()) < 3e-6


def test_bfloat16_computes_in_it_and_keeps_float32_weights():
    config = SmallConfig(epochs=0, steps=5, compile="loop")
    state, _ = train(config)
    with devices.precision("bfloat16"):
        half, found = train(config)
    assert keras.config.dtype_policy().name == "float32", "the policy is the caller's again"
    assert all(value.dtype == state[name].dtype for name, value in half.items())
    difference = furthest(
        {n: v for n, v in state.items() if "kernel" in n}, {n: v for n, v in half.items() if "kernel" in n}
    )
    assert 1e-5 < difference < 0.1
    assert np.isfinite(found["loss/numerator"]).all()
    with pytest.raises(BadInput, match="--precision is 'float8'"), devices.precision("float8"):
        pass


def with_forward(forward):
    return lambda config: build(config)._replace(forward=forward)


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda m, b, t: {"loss": Term(tf.reduce_mean(m(b["x"])))}, "expected one entry per example"),
        (lambda m, b, t: {"cost": Term(m(b["x"])[:, 0])}, r"the objective needs \['loss'\]"),
    ],
)
def test_forward_must_fit(forward, said):
    engine, experiment = engine_for(SmallConfig(compile="none"), with_forward(forward))
    with pytest.raises(BadInput, match=said):
        engine.train(experiment.train, 0, 1)


def test_padding_may_hold_anything():
    """A value that is not a number at weight 0 does not reach the loss."""
    columns = data(4)
    columns["x"][0] = np.nan

    def first_has_no_weight(model, batch, training):
        values = tf.reduce_sum(batch["x"], axis=1)
        return {"loss": Term(values, tf.cast(tf.math.is_finite(values), tf.float32))}

    engine, _ = engine_for(SmallConfig(compile="none"), with_forward(first_has_no_weight))
    found = engine.evaluate(Batches(columns, 4))
    assert found["loss"] == pytest.approx(columns["x"][1:].sum() / 3, rel=1e-5)


def test_weights_by_example_or_by_token():
    """On a square batch, too: `[batch]` weighs the examples, `[batch, time]` the tokens."""
    values, rows = tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.ones(2)
    assert [float(x) for x in terms.sums("a", Term(values, tf.constant([1.0, 0.0])), rows)] == [3.0, 2.0]
    assert [float(x) for x in terms.sums("a", Term(values, tf.constant([[1.0, 0.0]] * 2)), rows)] == [4.0, 2.0]
    assert [float(x) for x in terms.sums("a", Term(values, 0.5), tf.constant([0.0, 1.0]))] == [3.5, 1.0]
    with pytest.raises(ValueError, match="has weights of shape"):
        terms.sums("a", Term(values, tf.ones([2, 2, 1])), rows)


def test_unbuilt_model_is_refused():
    with pytest.raises(BadInput, match="has no weights yet"):
        engine_for(
            SmallConfig(), lambda config: build(config)._replace(model=keras.Sequential([keras.layers.Dense(3)]))
        )


def test_scalar_weights_train():
    class Scale(keras.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(), initializer="ones")

        def call(self, inputs):
            return inputs * self.scale

    def scaled(config):
        layers = [keras.Input((6,)), Scale(), keras.layers.Dense(CLASSES)]
        return build(config)._replace(model=keras.Sequential(layers))

    engine, experiment = engine_for(SmallConfig(compile="none"), scaled)
    names = set(engine.state())
    engine.train(experiment.train, 0, 3)
    assert float(experiment.model.layers[0].scale) != 1.0
    other, _ = engine_for(SmallConfig(compile="none"), scaled)
    assert set(other.state()) == names, "a second model of the process has the same names"


def test_state_of_another_model_changes_nothing():
    engine, _ = engine_for(SmallConfig())
    other, _ = engine_for(SmallConfig(norm="layer"))
    before = engine.state()
    with pytest.raises(BadInput, match=r"the weights do not fit the model: .*missing|unexpected"):
        engine.load(other.state())
    assert furthest(before, engine.state()) == 0


def test_health_names_the_first_step():
    found = {"loss/numerator": np.array([1, 2, np.nan]), "gradient_norm": np.array([1, np.inf, np.nan])}
    with pytest.raises(
        NonFinite, match=r"gradient_norm not finite in steps 101 to 102; the checkpoint of step 50 is kept"
    ):
        health.check(100, found, 50)
    health.check(0, {"loss/numerator": np.ones(3)}, None)


@pytest.mark.parametrize(
    ("strategy", "said"),
    [("gpu", "TensorFlow sees no GPU"), ("mirrored", "one device only"), ("multiworker", "TF_CONFIG is not set")],
)
def test_devices_that_are_not_there(strategy, said):
    with pytest.raises(BadInput, match=said):
        devices.strategy(strategy)


@pytest.mark.parametrize("value", ["", "{", '{"task": {}}'])
def test_cluster_that_cannot_be_read(monkeypatch, value):
    monkeypatch.setenv("TF_CONFIG", value)
    with pytest.raises(BadInput, match="TF_CONFIG is not as expected"):
        devices.strategy("auto")


def test_cpus_for_another_strategy():
    with pytest.raises(BadInput, match="--cpu_devices is 2 and --strategy is gpu: expected auto, cpu or mirrored"):
        devices.strategy("gpu", 2)


def test_more_cpus_than_were_made():
    with pytest.raises(BadInput, match="--cpu_devices is 8: TensorFlow has started with 4"):
        devices.strategy("cpu", 8)


def test_loop_compilation_needs_one_replica():
    with pytest.raises(BadInput, match="--compile=loop needs one replica, not 2"):
        engine_for(SmallConfig(compile="loop"), replicas=2)
