"""Mistakes in the arguments of `zoo.fit`: one line each, before anything is written."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from tests.helpers import keras_models
from zoo.errors import BadInput

X, Y = keras_models.draw(12, keras_models.WIDTH), keras_models.labels(12)
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def model(loss=CROSS_ENTROPY, metrics=None, optimizer="sgd", **options):
    network = keras_models.sequential()
    network.compile(optimizer, loss, metrics=metrics, **options)
    return network


class OwnStep(keras.Sequential):
    def train_step(self, data):
        return {}


class OwnCall(keras.losses.Loss):
    def __call__(self, y_true, y_pred, sample_weight=None):
        return 0.0


def whole_mean(y_true, y_pred):
    return keras.ops.mean(keras.ops.square(y_pred))


def own_step():
    network = OwnStep([keras.Input((keras_models.WIDTH,)), keras.layers.Dense(3)])
    network.compile("sgd", "mse")
    return network


def frozen():
    network = keras_models.sequential()
    network.trainable = False
    network.compile("sgd", CROSS_ENTROPY)
    return network


def no_y(**options):
    return {"y": None, **options}


def ragged():
    return tf.ragged.constant([[1.0], [1.0, 2.0]])


def uneven():
    for width in (3, 4):
        yield np.ones((2, width), np.float32), np.ones((2, 1), np.float32)


class NoBatch(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return None


class TwoTypes(NoBatch):
    def __getitem__(self, index):
        return X, Y.astype((np.int64, np.int32)[index])


def dataset_of(generator):
    spec = tf.TensorSpec([None, None]), tf.TensorSpec([None, 1])
    return tf.data.Dataset.from_generator(generator, output_signature=spec)


# A model, arguments besides x and y, and what the line says.
MISTAKES = {
    "uncompiled": (keras_models.sequential, {}, "is not compiled: call model.compile"),
    "no model": (lambda: 3, {}, "model is a int: expected a compiled keras.Model"),
    "no loss": (lambda: model(None), {}, "compiled without a loss"),
    "no optimizer": (lambda: model(optimizer=None), {}, "compiled without an optimizer"),
    "nothing to train": (frozen, {}, "has no trainable weights: all 2 are frozen"),
    "own train_step": (own_step, {}, r"OwnStep.train_step is its own.*write the task as forward"),
    "eager": (lambda: model(run_eagerly=True), {}, "run_eagerly=True.*use model.fit"),
    "no x": (model, {"x": None}, "x is missing: expected arrays"),
    "no y": (model, no_y(), "y is missing"),
    "numbers": (model, {"x": [1.0, 2.0]}, "x has a float where an array is expected"),
    "lengths": (model, {"y": Y[:5]}, r"shapes \(12, 5\), \(5,\): expected as many examples"),
    "empty": (model, {"x": X[:0], "y": Y[:0]}, "x has no examples"),
    "ragged": (model, {"x": ragged()}, "x has a RaggedTensor: expected dense arrays; pad it"),
    "objects": (model, {"x": np.array([object()] * 12)}, "x has an array of Python objects"),
    "generator": (model, no_y(x=(each for each in [X])), "x is a generator, whose batches cannot be read again"),
    "endless": (model, no_y(x=tf.data.Dataset.from_tensors((X, Y)).repeat()), "endless dataset.*steps_per_epoch"),
    "uneven": (model, no_y(x=dataset_of(uneven)), r"batches whose examples have shapes \(3,\) and \(4,\)"),
    "no batches": (model, no_y(x=tf.data.Dataset.from_tensors((X, Y)).take(0)), "x has no batches"),
    "unbatched": (
        model,
        no_y(x=tf.data.Dataset.range(4)),
        r"batches of EagerTensor \(\): expected arrays .*x.batch\(32\)",
    ),
    "single examples": (
        model,
        no_y(x=tf.data.Dataset.from_tensor_slices((X, X[:, :2]))),
        r"batches of EagerTensor \(5,\), EagerTensor \(2,\): expected arrays of as many examples",
    ),
    "nothing in a batch": (model, no_y(x=NoBatch()), "x has batches of nothing: expected arrays"),
    "types": (model, no_y(x=TwoTypes()), "x has batches of int64 and of int32: expected one type"),
    "y and a dataset": (model, {"x": tf.data.Dataset.from_tensors((X, Y))}, "x is a dataset and y .* is given, too"),
    "size of a dataset": (
        model,
        no_y(x=tf.data.Dataset.from_tensors((X, Y)), batch_size=3),
        "batch_size is 3, and x is a dataset",
    ),
    "width": (model, {"x": X[:, :2]}, r"the model '.*' cannot be called on x of shape \(2, 2\)"),
    "whole mean": (lambda: model(whole_mean), {}, "the loss 'whole_mean' returns one number for all examples"),
    "sum": (lambda: model(keras.losses.MeanSquaredError(reduction="sum")), {}, "reduction='sum', which depends on"),
    "own call": (lambda: model(OwnCall()), {}, "the loss 'own_call.*' overrides __call__"),
    "targets": (lambda: model("mse"), {"y": X[:, :2]}, "the loss 'mse' cannot compare y of shape"),
    "unknown metric": (lambda: model(metrics=["acuracy"]), {}, "metrics in model.compile does not fit.*acuracy"),
    "keys of losses": (lambda: model({"head": "mse"}), {}, "loss in model.compile does not fit"),
    "clipping": (
        lambda: model(optimizer=keras.optimizers.SGD(global_clipnorm=1.0)),
        {},
        r"SGD\(global_clipnorm=...\) clips .* use --clip_norm",
    ),
    "classes": (
        model,
        {"y": Y + 7},
        r"cannot compare y .*: Received a label value of \d+ which is outside",
    ),
    "width of validation": (
        model,
        {"validation_data": (X[:, :4], Y)},
        r"validation_data: the model '.*' cannot be called on x of shape \(2, 4\): Input 0 .* expected axis -1",
    ),
    "targets of validation": (model, {"validation_data": (X, X)}, "validation_data: the loss .* cannot compare y"),
    "no validation targets": (model, {"validation_data": X}, "validation_data has y of no kind: expected y, as in"),
    "parts of validation": (model, {"validation_data": ([X, X], Y)}, r"has x \['x/0', 'x/1'\]: expected x, as in"),
    "weights of validation": (
        model,
        {"sample_weight": np.ones(12), "validation_data": (X, Y, {"head": np.ones(12)})},
        "validation_data has sample_weight .*head.*: expected sample_weight, as in training",
    ),
    "both weights": (model, {"class_weight": {0: 1.0}, "sample_weight": np.ones(12)}, "class_weight and sample_weight"),
    "split": (model, {"validation_split": 1.5}, "validation_split is 1.5: expected a fraction"),
    "small split": (model, {"validation_split": 0.99}, "of 12 examples that leaves one part empty"),
    "rate": (model, {"learning_rate": 0.1}, "learning_rate is not an argument of fit: .* give it there"),
    "precision": (model, {"precision": "bfloat16"}, "set_dtype_policy"),
    "misspelled": (model, {"acumulate": 2}, "fit has no argument 'acumulate': did you mean accumulate?"),
    "epochs": (model, {"epochs": 2, "initial_epoch": 2}, r"epochs is 2: expected a whole number above initial_epoch"),
    "size": (model, {"batch_size": 0.5}, "batch_size is 0.5: expected a whole number"),
    "frequency": (model, {"validation_freq": [1, 3]}, r"validation_freq is \[1, 3\]: expected a whole number"),
    "log": (model, {"log_every": 5, "batch_size": 3}, "log_every is 5: expected a divisor of the 4 steps"),
    "workers": (model, {"strategy": "multiworker"}, "fit trains in one process"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_one_line(name, tmp_path):
    make, arguments, said = MISTAKES[name]
    with pytest.raises(BadInput, match=said) as error:
        zoo.fit(make(), **{"x": X, "y": Y, "verbose": 0, "workdir": tmp_path / "run", **arguments})
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_the_scope_of_a_strategy():
    strategy = tf.distribute.OneDeviceStrategy("/CPU:0")
    outside = model()
    with strategy.scope():
        inside = model()
        with pytest.raises(BadInput, match="fit makes the strategy itself"):
            zoo.fit(outside, X, Y, verbose=0)
    with pytest.raises(BadInput, match="make the model and call fit outside of a strategy's scope"):
        zoo.fit(inside, X, Y, verbose=0)


def test_mask_of_another_rank():
    body = [keras.layers.Embedding(11, 4, mask_zero=True), keras.layers.Dense(1)]
    network = keras.Sequential([keras.Input((6,), dtype="int32"), *body])
    network.compile("sgd", lambda y_true, y_pred: keras.ops.mean(keras.ops.square(y_pred - y_true), axis=1))
    with pytest.raises(BadInput, match=r"has a mask of shape .*: expected one value for each entry of the mask"):
        zoo.fit(network, keras_models.tokens(), keras_models.draw(keras_models.EXAMPLES, 6), verbose=0)
