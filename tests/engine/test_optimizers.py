"""Every optimizer keeps the promises; what cannot is refused with the reason."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers.small import SmallConfig, build, furthest, train
from zoo.engine import devices, optimizers, regularization, schedules, second_order
from zoo.errors import BadInput
from zoo.training.run import make_engine


# Those of second order are the same bits in tests of their own.
@pytest.mark.parametrize("name", [name for name in optimizers.NAMES if name not in second_order.KINDS])
def test_two_replicas_are_one(name):
    config = SmallConfig(optimizer=name, compile="none", epochs=0, steps=4, norm="layer", weight_decay=0.1)
    state, _ = train(config)
    assert furthest(state, train(config, 2)[0]) < 1e-5
    assert all(np.isfinite(value).all() for value in state.values())


@pytest.mark.parametrize("name", optimizers.NAMES)
def test_state_is_complete(name):
    """Stopped after 2 steps, loaded into a fresh engine and gone on: bitwise the run of 4 steps."""
    config = SmallConfig(optimizer=name, compile="none", epochs=0, steps=4, dropout=0.2)
    strategy = devices.strategy("cpu")

    def fresh():
        with strategy.scope():
            keras.utils.set_random_seed(config.seed)
            experiment = build(config)
        return make_engine(strategy, config, experiment, 4), experiment.train

    engine, batches = fresh()
    engine.train(batches, 0, 2)
    middle = engine.state()
    engine.train(batches, 2, 2)
    other, batches = fresh()
    other.load(middle)
    other.train(batches, 2, 2)
    assert all(np.array_equal(value, other.state()[name]) for name, value in engine.state().items())


def test_weight_decay_spares_biases_and_norms():
    """With a gradient of 0 only the decay moves a weight: w * (1 - rate * decay) a step."""
    config = SmallConfig(norm="layer", optimizer="adamw", weight_decay=0.5, learning_rate=0.1, epochs=0, steps=1)
    strategy = devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(0)
        experiment = build(config)
        for variable in experiment.model.trainable_variables:
            variable.assign(tf.ones(variable.shape))
    still = experiment._replace(
        forward=lambda model, batch, training: {
            name: term._replace(values=tf.stop_gradient(term.values))
            for name, term in experiment.forward(model, batch, training).items()
        }
    )
    engine = make_engine(strategy, config, still, 1)
    engine.train(still.train, 0, 1)
    for variable in experiment.model.trainable_variables:
        expected = 0.95 if len(variable.shape) == 2 else 1.0
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6, err_msg=variable.path)
    table = optimizers.describe(experiment.model, engine.groups)
    assert "all: matrices" in table and "0.5" in table and "all: biases, norms" in table


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"clipnorm": 1.0}, "use --clip_norm"),
        ({"clipvalue": 1.0}, "use --clip_norm"),
        ({"global_clipnorm": 1.0}, "use --clip_norm"),
        ({"use_ema": True}, "use --ema"),
        ({"gradient_accumulation_steps": 2}, "use --accumulate"),
        ({"loss_scale_factor": 2.0}, "float16"),
    ],
)
def test_refused_options(options, said):
    with pytest.raises(BadInput, match=said):
        optimizers.check(keras.optimizers.Adam(**options))
    with pytest.raises(BadInput, match="LossScaleOptimizer"):
        optimizers.check(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()))


def test_decay_spares_by_identity_not_by_rank():
    inputs = keras.Input((4, 6))
    attention = keras.layers.MultiHeadAttention(2, 3)
    norm = keras.layers.LayerNormalization(axis=[1, 2])
    model = keras.Model(inputs, norm(attention(inputs, inputs)))
    decayed = {id(variable) for variable in regularization.decayed(model)}
    assert {variable.path.split("/")[-1] for variable in model.trainable_variables if id(variable) in decayed} == {
        "kernel"
    }
    assert len(decayed) == 4


def test_schedule_free_is_refused_with_the_reason():
    with pytest.raises(BadInput, match="trains at another point"):
        optimizers.make("schedule_free_adamw", schedules.make("constant", 0.1, decay_steps=0), None)


def test_adamw_without_decay():
    config = SmallConfig(compile="none", epochs=0, steps=3)
    adam, adamw = (train(config.replace(optimizer=o, weight_decay=0.0))[0] for o in ("adam", "adamw"))
    assert (
        furthest({n: v for n, v in adam.items() if "model" in n}, {n: v for n, v in adamw.items() if "model" in n}) == 0
    )


def test_unknown_name_shows_the_nearest():
    with pytest.raises(BadInput, match="'adamv': did you mean adam"):
        optimizers.make("adamv", schedules.make("constant", 0.1, decay_steps=0), None)


def test_groups_learn_at_their_own_rate():
    """Two groups with SGD: the second at a tenth of the rate, both logged."""
    strategy = devices.mirrored_cpus(2)
    rate = schedules.make("constant", 0.1, decay_steps=0)
    config = SmallConfig(compile="none")
    with strategy.scope():
        keras.utils.set_random_seed(0)
        experiment = build(config)
        first, rest = experiment.model.trainable_variables[:2], experiment.model.trainable_variables[2:]
        groups = [
            optimizers.Group("body", first, keras.optimizers.SGD(rate.scaled(0.1))),
            optimizers.Group("head", rest, keras.optimizers.SGD(rate)),
        ]
    engine = make_engine(strategy, config, experiment._replace(optimizer=groups), 1)
    before = engine.state()
    found = engine.train(experiment.train, 0, 1)
    assert found["learning_rate/body"][0] == pytest.approx(0.01)
    assert found["learning_rate/head"][0] == pytest.approx(0.1)
    after = engine.state()
    moved = {n: np.sqrt(np.sum((after[n] - before[n]) ** 2)) for n in before if n.startswith("model")}
    total = np.sqrt(sum((value / (0.01 if i < 2 else 0.1)) ** 2 for i, value in enumerate(moved.values())))
    assert total == pytest.approx(found["gradient_norm"][0], rel=1e-4)


def test_groups_must_partition():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    kernel = optimizers.Group("a", [model.layers[0].kernel], keras.optimizers.SGD())
    with pytest.raises(BadInput, match=r"no optimizer group has the variables .*bias"):
        optimizers.groups(model, [kernel])
    whole = optimizers.Group("b", model.trainable_variables, keras.optimizers.SGD())
    with pytest.raises(BadInput, match="in two optimizer groups"):
        optimizers.groups(model, [kernel, whole])


def test_penalty_counts_keras_regularizers_once():
    layer = keras.layers.Dense(2, kernel_regularizer=keras.regularizers.L1(0.5), kernel_initializer="ones")
    model = keras.Sequential([keras.Input((3,)), layer])
    value = regularization.penalty(model, 0.25)
    total, gradients = regularization.gradients(value, [variable.value for variable in model.trainable_variables])
    assert float(total) == pytest.approx(0.5 * 6 + 0.25 * 6)
    np.testing.assert_allclose(gradients[0], 0.5 + 2 * 0.25)
    np.testing.assert_array_equal(gradients[1], 0.0)
    assert regularization.penalty(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), 0.0) is None
