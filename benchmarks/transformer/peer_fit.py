"""`model.fit` and `predict` in the Transformer race, with layers of Keras or of KerasHub."""

import threading

import keras
import numpy as np

from benchmarks.harness.fit_in_turns import Turns
from benchmarks.harness.worker import Metrics, Training
from benchmarks.transformer import data

_SMALL = keras.initializers.RandomNormal(stddev=0.02, seed=0)


def fit(
    work: str,
    batch_size: int,
    precision: str,
    steps_per_execution: int = 1,
    jit_compile: bool | str = "auto",
    hub: bool = False,
) -> Training:
    """One endless `fit` over arrays in memory, with its own shuffling, in turns of whole epochs.

    Args:
        work: "finetune" or "mlm".
        batch_size: examples per step.
        precision: float32, or bfloat16 by Keras' own policy, `mixed_bfloat16`.
        steps_per_execution: argument of `model.compile`.
        jit_compile: argument of `model.compile`.
        hub: whether to use layers of KerasHub instead of Keras.
    """
    model = network(work, precision, hub)
    masked = work == "mlm"
    losses, metrics = keras.losses, keras.metrics
    model.compile(
        optimizer=_optimizer(),
        loss=(losses.SparseCategoricalCrossentropy if masked else losses.BinaryCrossentropy)(from_logits=True),
        metrics=["accuracy"] if masked else [metrics.BinaryAccuracy("accuracy", threshold=0.0)],
        steps_per_execution=steps_per_execution,
        jit_compile=jit_compile,
    )
    columns = data.load(work)
    x = [columns["tokens"], columns["places"]] if masked else columns["tokens"]
    turns, steps_per_epoch = Turns(), data.EXAMPLES // batch_size

    def first() -> Metrics:
        rows = batch_size * steps_per_execution
        few = [column[:rows] for column in x] if masked else x[:rows]
        logs = model.fit(few, columns["y"][:rows], batch_size, verbose=0).history
        everything = {"x": x, "y": columns["y"], "batch_size": batch_size}
        threading.Thread(target=turns.fit, args=(model, everything), daemon=True).start()
        return Metrics(logs["loss"][0], logs["accuracy"][0])

    return Training(first, train=lambda steps: turns.train(steps // steps_per_epoch), quantum=steps_per_epoch)


def predict(work: str, batch_size: int, precision: str, hub: bool = False) -> Training:
    """`predict_on_batch`: `predict` has a set-up for each call, which is for many batches."""
    return data.inference(network(work, precision, hub).predict_on_batch, batch_size)


def network(work: str, precision: str, hub: bool) -> keras.Model:
    """From tokens, and for `mlm` masked positions, to logits."""
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
    keras.utils.set_random_seed(0)
    tokens = keras.Input((data.TIME,), dtype="int32")
    embedding = keras.layers.Embedding(data.VOCABULARY[work], data.WIDTH, embeddings_initializer=_SMALL)
    positions = keras.layers.Embedding(data.TIME, data.WIDTH, embeddings_initializer=_SMALL)
    x = embedding(tokens) + positions(np.arange(data.TIME, dtype=np.int32)[None])
    x = keras.layers.Dropout(data.DROPOUT)(_norm(x))
    for _ in range(data.LAYERS):
        x = _hub_block(x) if hub else _block(x)
    if work == "mlm":
        places = keras.Input((data.PLACES,), dtype="int32")
        x = keras.ops.take_along_axis(x, places[:, :, None], axis=1)  # [batch, places, width]
        x = _norm(_dense(data.WIDTH, "gelu")(x))
        return keras.Model([tokens, places], _Tied(embedding)(x))
    x = keras.layers.Dropout(data.DROPOUT)(_dense(data.WIDTH, "tanh")(x[:, 0]))
    return keras.Model(tokens, _dense(1, dtype="float32")(x))


class _Tied(keras.layers.Layer):
    """Logits by the embedding matrix and a bias, in float32 for the loss."""

    def __init__(self, embedding: keras.layers.Embedding):
        super().__init__()
        self._embedding = embedding

    def build(self, inputs_shape):
        self.bias = self.add_weight((self._embedding.input_dim,), initializer="zeros", autocast=False)

    def call(self, x):
        matrix = keras.ops.cast(self._embedding.embeddings, x.dtype)
        return keras.ops.cast(keras.ops.matmul(x, keras.ops.transpose(matrix)), "float32") + self.bias


def _block(x):
    attention = keras.layers.MultiHeadAttention(
        data.HEADS, data.WIDTH // data.HEADS, dropout=data.DROPOUT, kernel_initializer=_SMALL
    )
    x = _norm(x + keras.layers.Dropout(data.DROPOUT)(attention(x, x)))
    middle = _dense(data.WIDTH)(_dense(data.INNER, "gelu")(x))
    return _norm(x + keras.layers.Dropout(data.DROPOUT)(middle))


def _hub_block(x):
    import keras_hub

    return keras_hub.layers.TransformerEncoder(
        data.INNER,
        data.HEADS,
        dropout=data.DROPOUT,
        activation="gelu",
        layer_norm_epsilon=data.EPSILON,
        kernel_initializer=_SMALL,
    )(x)


def _norm(x):
    return keras.layers.LayerNormalization(epsilon=data.EPSILON)(x)


def _dense(units: int, activation: str | None = None, **options) -> keras.layers.Dense:
    return keras.layers.Dense(units, activation, kernel_initializer=_SMALL, **options)


def _optimizer() -> keras.optimizers.Optimizer:
    rate = keras.optimizers.schedules.PolynomialDecay(data.LEARNING_RATE, data.TOTAL_STEPS, 0.0)
    optimizer = keras.optimizers.AdamW(_WarmUp(rate), weight_decay=data.WEIGHT_DECAY, global_clipnorm=data.CLIP_NORM)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


class _WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, rate):
        self._rate = rate

    def __call__(self, step):
        return self._rate(step) * keras.ops.minimum((keras.ops.cast(step, "float32") + 1) / data.WARMUP_STEPS, 1.0)
