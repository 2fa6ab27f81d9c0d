"""Encoders in the engine: the same run however the step is compiled and split, and in bfloat16 nearly so."""

import dataclasses
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from tests.helpers.small import furthest
from tests.training.test_resume import as_if_killed, final_state, untimed
from zoo import Batches, Config, Experiment, Term, setting
from zoo.engine import devices
from zoo.engine.engine import Engine
from zoo.engine.private_apis import inner_graphs
from zoo.models import encoder_heads, transformer, xla_islands
from zoo.models.hugging_face.config import Shape
from zoo.training.run import make_engine, total_steps

TOLERANCE = 3e-6
VOCABULARY, TIME = 30, 9


@dataclasses.dataclass(frozen=True)
class EncoderConfig(Config):
    epochs: float = setting(2.0, "Two, so that a run crosses an epoch's edge.", minimum=0, may_change=True)
    batch_size: int = setting(13, "Odd.", minimum=1)
    learning_rate: float = setting(0.02, "Large, so that a wrong step shows.", minimum=0)
    causal: bool = setting(False, "A language model, not a classifier.")


# Without Adam, which makes large steps of the rounding errors in gradients that are 0, as that of the keys' bias.
EVERYTHING = EncoderConfig(
    optimizer="momentum", clip_norm=0.5, l2=0.01, ema=0.9, schedule="cosine", warmup_steps=2, compile="none"
)


def columns(rows):
    draw = np.random.default_rng(3)
    tokens = draw.integers(1, VOCABULARY, (rows, TIME)).astype(np.int32)
    tokens[np.arange(TIME) >= draw.integers(1, TIME + 1, rows)[:, None]] = 0
    return {"tokens": tokens, "y": (tokens[:, 0] % 2).astype(np.float32)}


@pytest.mark.parametrize("norm", [True, False])
def test_gradients_are_those_of_the_function_without_an_island(norm):
    """Also those of vectors, which an island leaves in rows and adds up outside."""
    draw = np.random.default_rng(0)
    x, more, upstream = (tf.constant(draw.normal(size=(5, 7, 4)), tf.float32) for _ in range(3))
    vectors = [tf.constant(draw.normal(size=4), tf.float32) for _ in range(2)] if norm else []
    island = transformer._residual(0.0, 1e-6)
    given = [x, more, tf.zeros([3], tf.uint32), *vectors]
    found = []
    for function in (island, island.__wrapped__):
        with tf.GradientTape() as tape:
            tape.watch([x, more, *vectors])
            loss = tf.reduce_sum(function(*given) * upstream)
        found.append(tape.gradient(loss, [x, more, *vectors]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def classify(model, batch, training):
    logits = model(batch["tokens"], training=training)[:, 0]
    return {"loss": Term(tf.nn.sigmoid_cross_entropy_with_logits(batch["y"], logits))}


def predict(model, batch, training):
    read, wanted = batch["tokens"][:, :-1], batch["tokens"][:, 1:]
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, model(read, training=training))
    return {"loss": Term(loss, tf.cast(wanted != 0, tf.float32))}


def build(config: EncoderConfig) -> Experiment:
    shape = Shape(VOCABULARY, 8, 2, 2, inner=16, positions=TIME, segments=0, dropout=0.2, attention_dropout=0.2)
    encoder = transformer.encoder(shape, norm_first=config.causal, causal=config.causal)
    return Experiment(
        model=encoder_heads.language_model(encoder) if config.causal else encoder_heads.classifier(encoder, 2),
        forward=predict if config.causal else classify,
        train=Batches(columns(29), config.batch_size, seed=config.seed),
        evals={"eval": Batches(columns(11), 4)},
        compile="islands",
    )


class Trained(NamedTuple):
    """The engine, its state before and after the run, scalars of each step, and the evaluation's loss at the end."""

    engine: Engine
    start: dict[str, np.ndarray]
    state: dict[str, np.ndarray]
    scalars: dict[str, np.ndarray]
    loss: float


def weights(state):
    return {name: value for name, value in state.items() if name.startswith("model/")}


def trained(config, replicas=1):
    strategy = devices.mirrored_cpus(replicas) if replicas > 1 else devices.strategy("cpu")
    with devices.precision(config.precision):
        with strategy.scope():
            keras.utils.set_random_seed(config.seed)
            experiment = build(config)
        total = total_steps(config, experiment)
        engine = make_engine(strategy, config, experiment, total)
        start, scalars = engine.state(), engine.train(experiment.train, 0, total)
        return Trained(engine, start, engine.state(), scalars, engine.evaluate(experiment.evals["eval"])["loss"])


@pytest.fixture(scope="module")
def plain():
    """The reference run of each task."""
    return {causal: trained(EVERYTHING.replace(causal=causal)) for causal in (False, True)}


SPLITS = [("islands", 4, 2), ("loop", 1, 1), ("islands", 1, 1), ("islands", 1, 2), ("step", 1, 2), ("none", 2, 1)]
# The first two by one of the two tasks each; with --all each split by both.
SAMPLE = [pytest.param(*split, bool(number)) for number, split in enumerate(SPLITS[:2])]
OTHERS = [
    pytest.param(*split, causal, marks=pytest.mark.thorough)
    for number, split in enumerate(SPLITS)
    for causal in ((False, True) if number > 1 else (not number,))
]


@pytest.mark.parametrize(("compile", "replicas", "accumulate", "causal"), SAMPLE + OTHERS)
def test_the_same_run(compile, replicas, accumulate, causal, plain):
    config = EVERYTHING.replace(compile=compile, accumulate=accumulate, causal=causal)
    found = trained(config, replicas)
    assert furthest(found.state, plain[causal].state) < TOLERANCE
    assert found.loss == pytest.approx(plain[causal].loss, abs=1e-5)


def test_auto_is_what_the_experiment_says():
    config = EVERYTHING.replace(compile="auto", steps=1, epochs=0.0, warmup_steps=0)
    for asked, mode in (("auto", "islands"), ("step", "step")):
        strategy = devices.strategy("cpu")
        with strategy.scope():
            experiment = build(config)
        assert make_engine(strategy, config.replace(compile=asked), experiment, 1).compile == mode


def test_steps_per_loop_is_bitwise():
    config = EVERYTHING.replace(compile="islands")
    whole, cut = trained(config), trained(config.replace(steps_per_loop=1))
    assert all(np.array_equal(value, cut.state[name]) for name, value in whole.state.items())
    assert all(np.array_equal(value, cut.scalars[name]) for name, value in whole.scalars.items())


@pytest.mark.parametrize(
    ("compile", "causal"),
    [
        ("islands", False),
        ("step", True),
        pytest.param("islands", True, marks=pytest.mark.thorough),
        pytest.param("step", False, marks=pytest.mark.thorough),
    ],
)
def test_bfloat16_keeps_float32_weights_and_learns_the_same(compile, causal, plain):
    exact = plain[causal]
    found = trained(EVERYTHING.replace(compile=compile, precision="bfloat16", causal=causal))
    assert {variable.dtype for variable in found.engine.model.variables} == {"float32"}
    assert {output.dtype for output in found.engine.model.outputs} == {"float32"}
    # Numbers of bfloat16 have 8 bits: close, and not equal.
    losses, wanted = found.scalars["loss/numerator"], exact.scalars["loss/numerator"]
    np.testing.assert_allclose(losses, wanted, rtol=0.01)
    assert np.abs(losses - wanted).max() > 0
    moved, off = (
        furthest(weights(exact.start), weights(exact.state)),
        furthest(weights(found.state), weights(exact.state)),
    )
    assert 0 < off < moved / 20


def test_masked_words_have_logits_in_float32():
    with devices.precision("bfloat16"):
        shape = Shape(VOCABULARY, 8, 1, 2, inner=16, positions=TIME, segments=0)
        model = encoder_heads.pretrainer(transformer.encoder(shape))
    tokens, places = columns(3)["tokens"], np.tile(np.int32([0, 2]), (3, 1))
    model.get_layer("mask_bias").bias.assign(np.random.default_rng(0).normal(size=VOCABULARY))
    words = model([tokens, places]).numpy()
    assert words.dtype == np.float32
    assert np.abs(words - tf.cast(tf.cast(words, tf.bfloat16), tf.float32)).max() > 0, "and not rounded before"


def test_resume_is_bitwise(tmp_path):
    config = EVERYTHING.replace(compile="auto", epochs=0, steps=7, checkpoint_every=1, keep=100, eval_every=3)
    result = zoo.run(build, config, tmp_path / "whole")
    folder = as_if_killed(tmp_path / "whole", tmp_path, 4)
    assert untimed(zoo.run(build, config, folder)) == untimed(result)
    expected, found = final_state(tmp_path / "whole"), final_state(folder)
    assert all(np.array_equal(expected.state[name], found.state[name]) for name in expected.state)


def test_uncompiled_islands_answer_the_same():
    island = xla_islands.island(lambda x, y: tf.tanh(x) * y + 1.0)
    x, y = tf.random.stateless_normal((2, 3, 4), (1, 2)), tf.random.stateless_normal((3, 4), (3, 4))
    compiled = island(x, y)

    def traced(x, y):
        with xla_islands.uncompiled():
            return island(x, y)

    graph = tf.function(traced, autograph=False).get_concrete_function(x, y).graph
    assert not inner_graphs(graph), "no function of its own, which XLA would compile"
    np.testing.assert_allclose(traced(x, y), compiled, atol=1e-6)
