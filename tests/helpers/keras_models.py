"""Compiled Keras models without noise and their data, on which `zoo.fit` and `model.fit` must agree."""

import keras
import numpy as np

layers = keras.layers
EXAMPLES, WIDTH, CLASSES, TIME = 29, 5, 3, 6


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def labels(*shape, classes=CLASSES, seed=1):
    return np.random.default_rng(seed).integers(0, classes, shape)


def tokens():
    """Ids of sequences of different lengths, 0 for padding."""
    ids = labels(EXAMPLES, TIME, classes=9) + 1
    ids[np.arange(TIME) >= labels(EXAMPLES, 1, classes=TIME, seed=2) + 1] = 0
    return ids


def sequential(*body, outputs=CLASSES, **last):
    return keras.Sequential([keras.Input((WIDTH,)), *body, layers.Dense(outputs, **last)])


def classifier():
    """Integer targets, logits, momentum; two metrics that are means."""
    model = sequential(layers.Dense(7, "tanh"))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metrics = ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")]
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=metrics)
    return model, {"x": draw(EXAMPLES, WIDTH), "y": labels(EXAMPLES), "validation_split": 0.3}


def binary():
    """Probabilities, class weights, metrics that are no means."""
    model = sequential(layers.Dense(7, "tanh"), outputs=1, activation="sigmoid")
    plain = ["accuracy", keras.metrics.AUC(name="auc"), keras.metrics.Precision(name="precision")]
    weighted = [keras.metrics.Recall(name="recall"), "mse"]
    model.compile(keras.optimizers.SGD(0.3), "binary_crossentropy", metrics=plain, weighted_metrics=weighted)
    y = labels(EXAMPLES, classes=2)
    validation = draw(11, WIDTH, seed=5), labels(11, classes=2, seed=6), np.linspace(0, 2, 11, dtype=np.float32)
    return model, {
        "x": draw(EXAMPLES, WIDTH),
        "y": y[:, None],
        "class_weight": {0: 0.5, 1: 3.0},
        "validation_data": (validation[0], validation[1][:, None], validation[2]),
    }


def regression():
    """Weights of examples, of which some are 0; penalties and a constraint; a schedule; a function as metric."""

    def worst(y_true, y_pred):
        return keras.ops.max(keras.ops.abs(y_true - y_pred), axis=-1)

    hidden = layers.Dense(7, "tanh", kernel_regularizer="l2", kernel_constraint=keras.constraints.MaxNorm(0.9))
    model = sequential(hidden, outputs=2, bias_regularizer="l1")
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    model.compile(keras.optimizers.Adam(rate), "mse", metrics=["mae", worst], weighted_metrics=["mae"])
    # Whole batches: the penalty is averaged over the steps.
    weights = np.random.default_rng(3).integers(0, 3, 24).astype(np.float64)
    return model, {"x": draw(24, WIDTH), "y": draw(24, 2, seed=1), "sample_weight": weights}


def activities():
    """Losses that layers add."""
    model = sequential(layers.Dense(7, "tanh", activity_regularizer="l2"), layers.ActivityRegularization(l1=0.1))
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, {"x": draw(EXAMPLES, WIDTH), "y": labels(EXAMPLES), "validation_split": 0.3}


def mean_with_sample_weight():
    """A loss that divides by the sum of the weights."""
    model = sequential()
    loss = keras.losses.CategoricalCrossentropy(True, label_smoothing=0.1, reduction="mean_with_sample_weight")
    model.compile(keras.optimizers.SGD(0.3), loss, metrics=["accuracy"])
    y = np.eye(CLASSES, dtype=np.float32)[labels(EXAMPLES)]
    # One batch: Keras weighs the batches' means by their examples.
    return model, {
        "x": draw(EXAMPLES, WIDTH),
        "y": y,
        "sample_weight": np.abs(draw(EXAMPLES, seed=4)),
        "batch_size": 29,
    }


def masked():
    """A mask that reaches the loss and the metrics."""
    body = [layers.Embedding(11, 4, mask_zero=True), layers.LSTM(5, return_sequences=True), layers.Dense(CLASSES)]
    model = keras.Sequential([keras.Input((TIME,), dtype="int32"), *body])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.3), loss, metrics=["accuracy"])
    return model, {"x": tokens(), "y": labels(EXAMPLES, TIME), "batch_size": 29}


def timesteps():
    """Targets with a dimension of time, and a weight for each step."""
    model = keras.Sequential([keras.Input((TIME, 4)), layers.Dense(3, "tanh"), layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.3), keras.losses.Huber(0.5), metrics=["mae"])
    weights = np.abs(draw(EXAMPLES, TIME, seed=4))
    return model, {"x": draw(EXAMPLES, TIME, 4), "y": draw(EXAMPLES, TIME, 2, seed=1), "sample_weight": weights}


def two_outputs():
    """Losses, weights and metrics by output."""
    x = keras.Input((WIDTH,))
    hidden = layers.Dense(6, "tanh")(x)
    outputs = {"size": layers.Dense(1, name="size")(hidden), "kind": layers.Dense(CLASSES, name="kind")(hidden)}
    model = keras.Model(x, outputs)
    kind = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.SGD(0.1),
        loss={"size": "mae", "kind": kind},
        loss_weights={"size": 0.3, "kind": 2.0},
        metrics={"kind": "accuracy", "size": ["mse", keras.metrics.RootMeanSquaredError(name="rmse")]},
    )
    # Whole batches: of the losses of single outputs, Keras shows the mean of the batches' means.
    y = {"size": draw(24, 1, seed=1), "kind": labels(24)}
    weights = {"size": np.abs(draw(24, seed=4)), "kind": np.ones(24, np.float32)}
    return model, {"x": draw(24, WIDTH), "y": y, "sample_weight": weights, "validation_split": 0.33}


def partial_loss():
    """A list of outputs, one of which has no loss."""
    x = keras.Input((WIDTH,))
    hidden = layers.Dense(6, "tanh")(x)
    # Keras warns of weights without a gradient.
    two = layers.Dense(4, name="two", trainable=False)
    model = keras.Model(x, [layers.Dense(2, name="one")(hidden), two(hidden)])
    model.compile(keras.optimizers.SGD(0.1), loss=["mse", None])
    return model, {"x": draw(EXAMPLES, WIDTH), "y": draw(EXAMPLES, 2, seed=1)}


def masked_outputs():
    """Two outputs, one of which has a mask: each loss has weights of its own."""
    ids = keras.Input((TIME,), dtype="int32")
    hidden = layers.LSTM(5, return_sequences=True)(layers.Embedding(11, 4, mask_zero=True)(ids))
    tags = layers.Dense(CLASSES, name="tags")(hidden)
    value = layers.Dense(1, name="value")(layers.GlobalAveragePooling1D()(hidden))
    model = keras.Model(ids, [tags, value])
    tag_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss=[tag_loss, "mse"], loss_weights=[1.0, 0.5])
    return model, {"x": tokens(), "y": [labels(EXAMPLES, TIME), draw(EXAMPLES, 1, seed=1)], "batch_size": 29}


class Two(keras.Model):
    """A class of its own with two inputs, no argument `training`, and no weights before the first call."""

    def __init__(self, **options):
        super().__init__(**options)
        self.left, self.right = layers.Dense(4, "tanh"), layers.Dense(1)

    def call(self, inputs):
        return self.right(self.left(inputs["a"]) * inputs["b"])


def unbuilt():
    """Inputs by name; weight decay of all weights, as Keras has it; a function as loss; weights in validation only."""

    def loss(y_true, y_pred):
        return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)

    model = Two()
    model.compile(keras.optimizers.AdamW(0.05, weight_decay=0.3), loss, weighted_metrics=["mae"])
    x = {"a": draw(EXAMPLES, WIDTH), "b": draw(EXAMPLES, 1, seed=3)}
    validation = {"a": draw(7, WIDTH, seed=8), "b": draw(7, 1, seed=9)}, draw(7, 1, seed=5), np.arange(7.0)
    return model, {"x": x, "y": draw(EXAMPLES, 1, seed=1), "validation_data": validation}


class Scaled(layers.Layer):
    """Another function in training than in an evaluation."""

    def call(self, x, training=False):
        return x if training else 3.0 * x


def nested():
    """A compiled model inside another, a frozen layer, a layer that asks for `training`; compiled twice."""
    inner = keras.Sequential([keras.Input((WIDTH,)), layers.Dense(4, "tanh"), layers.Dense(4, name="frozen")])
    inner.compile("adam", "mse", metrics=["mae"])
    model = sequential(inner, Scaled())
    model.compile("adam", "mse", metrics=["mse"])
    inner.get_layer("frozen").trainable = False
    model.compile(keras.optimizers.RMSprop(0.01), "categorical_crossentropy", metrics=["acc"], jit_compile=True)
    y = np.eye(CLASSES, dtype=np.float32)[labels(EXAMPLES)]
    return model, {"x": draw(EXAMPLES, WIDTH), "y": y, "validation_split": 0.3, "validation_freq": 2}


CASES = {
    each.__name__: each
    for each in (
        classifier,
        binary,
        regression,
        activities,
        mean_with_sample_weight,
        masked,
        timesteps,
        two_outputs,
        partial_loss,
        masked_outputs,
        unbuilt,
        nested,
    )
}


def make(name: str):
    """A model with the same weights at each call, and the arguments of fit."""
    keras.utils.set_random_seed(7)
    model, arguments = CASES[name]()
    return model, {"batch_size": 8, "shuffle": False, "verbose": 0, **arguments}
