"""Canaries: what TensorFlow and Keras do today and the engine works around. One that fails is good news."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.engine import devices, private_apis


def replicas_of(strategy, function):
    values = strategy.run(tf.function(function, autograph=False))
    return [value.numpy() for value in strategy.experimental_local_results(values)]


def test_keras_dropout_draws_the_same_mask_on_every_replica():
    strategy = devices.mirrored_cpus(2)
    with strategy.scope():
        layer = keras.layers.Dropout(0.5, seed=1)
        layer.build((4, 50))
    one, two = replicas_of(strategy, lambda: layer(tf.ones((4, 50)), training=True))
    np.testing.assert_array_equal(one, two)


def test_keras_random_functions_take_these_arguments():
    """`zoo.engine.keras_layers` takes their place."""
    expected = {
        "normal": "shape mean stddev dtype seed",
        "uniform": "shape minval maxval dtype seed",
        "categorical": "logits num_samples dtype seed",
        "randint": "shape minval maxval dtype seed",
        "truncated_normal": "shape mean stddev dtype seed",
        "dropout": "inputs rate noise_shape seed",
        "shuffle": "x axis seed",
        "gamma": "shape alpha dtype seed",
        "binomial": "shape counts probabilities dtype seed",
        "beta": "shape alpha beta dtype seed",
    }
    module = private_apis.random_functions()
    public = {name for name, value in vars(module).items() if inspect.isfunction(value) and not name.startswith("_")}
    assert public - {"draw_seed", "make_default_seed", "standardize_dtype", "floatx"} == set(expected)
    for name, arguments in expected.items():
        # A function that is replaced already shows the arguments of Keras' own.
        assert list(inspect.signature(getattr(module, name)).parameters) == arguments.split(), name
    assert list(inspect.signature(keras.random.SeedGenerator.next).parameters) == ["self", "ordered"]
    called = inspect.signature(keras.layers.BatchNormalization.call).parameters
    assert list(called) == ["self", "inputs", "training", "mask"]


def test_keras_batch_normalisation_follows_each_replica():
    strategy = devices.mirrored_cpus(2)
    with strategy.scope():
        layer = keras.layers.BatchNormalization(momentum=0.0)
        layer.build((4, 1))

    def mean():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        column = tf.constant([[0.0], [1.0], [2.0], [3.0]])
        return layer(column + 10.0 * tf.cast(replica, tf.float32), training=True)

    one, two = replicas_of(strategy, mean)
    # Over both replicas the second one's rows would all be above the mean.
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_keras_clips_before_the_reduction():
    """Gradients (3, 0) and (-3, 4) with a norm of at most 1: right is a step of (0, -1)."""
    strategy = devices.mirrored_cpus(2)
    with strategy.scope():
        variable = keras.Variable(np.zeros(2, np.float32))
        optimizer = keras.optimizers.SGD(1.0, global_clipnorm=1.0)
        optimizer.build([variable])

    def step():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        gradient = tf.constant([[3.0, 0.0], [-3.0, 4.0]])[replica]
        optimizer.apply([gradient], [variable])
        return variable.value + 0.0

    np.testing.assert_allclose(replicas_of(strategy, step)[0], [-0.4, -0.8], atol=1e-6)


def test_keras_accumulation_fails_under_a_strategy():
    strategy = devices.mirrored_cpus(2)
    with strategy.scope():
        variable = keras.Variable(np.zeros(2, np.float32))
        optimizer = keras.optimizers.SGD(1.0, gradient_accumulation_steps=2)
        optimizer.build([variable])

    def step():
        optimizer.apply([tf.ones(2)], [variable])
        return tf.constant(0)

    with pytest.raises(RuntimeError, match="merge_call"):
        replicas_of(strategy, step)


def test_keras_optimizers_add_up_gradients_without_a_switch():
    strategy = devices.mirrored_cpus(2)
    with strategy.scope():
        variable = keras.Variable(np.zeros(1, np.float32))
        optimizer = keras.optimizers.SGD(1.0)
        optimizer.build([variable])

    def step():
        optimizer.apply([tf.ones(1)], [variable])
        return variable.value + 0.0

    np.testing.assert_allclose(replicas_of(strategy, step)[0], [-2.0])


class Twice(keras.layers.Layer):
    """A layer with a layer inside."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        return self.dense(self.dense(x))


def test_keras_lists_inner_layers_by_a_private_method_only():
    inner = keras.Sequential([keras.Input((2,)), Twice()])
    model = keras.Sequential([keras.Input((2,)), inner])
    dense = inner.layers[0].dense
    assert model.layers == [inner]
    layers = private_apis.all_layers(model)
    assert layers[0] is model and inner in layers and layers.count(dense) == 1
    # A public method would take the place of `private_apis.all_layers`.
    assert not hasattr(model, "flatten_layers")


def test_keras_optimizers_find_a_variables_slot_by_a_private_method_only():
    variables = [keras.Variable(np.zeros(2, np.float32)) for _ in range(3)]
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(variables)
    assert [private_apis.variable_index(optimizer, variable) for variable in variables] == [0, 1, 2]
    # A public method would take the place of `private_apis.variable_index`.
    assert not hasattr(optimizer, "get_variable_index") and not hasattr(optimizer, "variable_index")


def test_tensorflow_shows_what_a_dataset_calls_by_private_methods_only():
    source = tf.data.Dataset.range(3)
    mapped = source.map(lambda number: tf.random.uniform([]))
    assert private_apis.dataset_inputs(mapped) == [source]
    (graph,) = private_apis.dataset_graphs(mapped)
    assert "RandomUniform" in {operation.type for operation in graph.get_operations()}
    # Public ones would take the place of `private_apis.dataset_inputs` and `dataset_graphs`.
    assert not hasattr(mapped, "inputs") and not hasattr(mapped, "functions")
    # `zoo.keras_task.random_draws` knows it by name.
    assert type(source.cache()).__name__ == "CacheDataset"


def test_tensorflow_marks_a_step_of_a_profile_by_a_private_argument_only():
    """Its documentation says `_r=1` itself; once it does not, `private_apis.traced_step` has a public argument."""
    assert "_r=1" in tf.profiler.experimental.Trace.__doc__
    with private_apis.traced_step(3):
        pass


def test_keras_resolves_what_was_compiled_in_private_only():
    """`zoo.keras_task.compiled` reads it there."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    model.compile(keras.optimizers.SGD(rate), ["mse"], metrics=["accuracy"])
    arguments = private_apis.compile_arguments(model)
    assert arguments["loss"] == ["mse"] and arguments["metrics"] == ["accuracy"]
    assert private_apis.learning_rate(model.optimizer) is rate
    assert isinstance(private_apis.metric_object("accuracy", np.zeros((2, 1)), np.zeros((2, 1))), keras.metrics.Metric)
    assert private_apis.loss_object("mse", None, None).reduction == "sum_over_batch_size"
    # A public module would take its place.
    assert not hasattr(keras, "trainers") and not hasattr(model, "compile_arguments")
