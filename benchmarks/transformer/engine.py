"""This engine in the Transformer race, and the machine's peak."""

import keras
import tensorflow as tf

from benchmarks.harness.engine_contender import training
from benchmarks.harness.worker import Metrics, Training
from benchmarks.transformer import data
from zoo import Batches, Config, Experiment, Term
from zoo.engine import devices
from zoo.models import encoder_heads, transformer
from zoo.models.hugging_face.config import Shape


def engine(
    work: str, batch_size: int, precision: str, compile: str = "islands", dropout: float = data.DROPOUT
) -> Training:
    """A run without files, logs and evaluations."""
    # Never reset, as the model is traced later.
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
    config = Config(
        steps=data.TOTAL_STEPS,
        batch_size=batch_size,
        optimizer="adamw",
        learning_rate=data.LEARNING_RATE,
        weight_decay=data.WEIGHT_DECAY,
        schedule="linear",
        warmup_steps=data.WARMUP_STEPS,
        clip_norm=data.CLIP_NORM,
        compile=compile,
        precision=precision,
    )
    strategy = devices.strategy(config.strategy)
    with strategy.scope():
        keras.utils.set_random_seed(config.seed)
        forward = _masked_words if work == "mlm" else _classes
        experiment = Experiment(network(work, dropout), forward, Batches(data.load(work), batch_size, config.seed))
    return training(strategy, config, experiment, quantum=1)


def infer(work: str, batch_size: int, precision: str, jit_compile: bool = False) -> Training:
    """Logits of one batch after the other, as arrays."""
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
    keras.utils.set_random_seed(0)
    model = network(work, data.DROPOUT)
    forward = tf.function(lambda tokens: model(tokens, training=False), jit_compile=jit_compile)
    return data.inference(forward, batch_size)


def products(work: str, batch_size: int, precision: str, jit_compile: bool = False, size: int = 2048) -> Training:
    """Products of large square matrices, with as many operations as the step's own matrix products."""
    left, right = (tf.cast(tf.random.normal([size, size]), precision) for _ in range(2))
    product = tf.function(tf.matmul, jit_compile=jit_compile)

    def run(steps: int) -> Metrics:
        for _ in range(max(1, round(steps * data.operations(work, batch_size) / (2 * size**3)))):
            result = product(left, right)
        return Metrics(float(result[0, 0]), 0.0)

    return Training(first=lambda: run(1), train=run)


def network(work: str, dropout: float) -> keras.Model:
    """The zoo's own encoder with the head that `work` needs."""
    size = data.VOCABULARY[work], data.WIDTH, data.LAYERS, data.HEADS
    rates = {"dropout": dropout, "attention_dropout": dropout}
    shape = Shape(*size, inner=data.INNER, positions=data.TIME, segments=0, epsilon=data.EPSILON, **rates)
    encoder = transformer.encoder(shape)
    return encoder_heads.pretrainer(encoder) if work == "mlm" else encoder_heads.classifier(encoder, 2, dropout=dropout)


def _classes(model: keras.Model, batch: dict[str, tf.Tensor], training: bool) -> dict[str, Term]:
    logits, y = model(batch["tokens"], training=training)[:, 0], tf.cast(batch["y"], tf.float32)
    right = tf.cast((logits > 0) == (y > 0), tf.float32)
    return {"loss": Term(tf.nn.sigmoid_cross_entropy_with_logits(y, logits)), "accuracy": Term(right)}


def _masked_words(model: keras.Model, batch: dict[str, tf.Tensor], training: bool) -> dict[str, Term]:
    logits, y = model([batch["tokens"], batch["places"]], training=training), batch["y"]
    right = tf.cast(tf.argmax(logits, -1, output_type=tf.int32) == y, tf.float32)
    return {"loss": Term(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)), "accuracy": Term(right)}
