"""Levers of a run together: each pair of eight, on one and two devices, stopped in between, against NumPy.

Six runs cover all pairs, in each of which a lever is on or off: a covering array (Kleitman and Spencer, "Families of
k-independent sets", 1973). Faults that two options cause together are most of those that a combination causes (Kuhn,
Wallace and Gallo, "Software fault interactions and implications for software testing", 2004).
"""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from experiments import cnn_classifier
from tests.helpers.small import SmallConfig
from zoo import Batches, Experiment, randomness
from zoo.engine import devices
from zoo.models import class_imbalance, image_augmentation
from zoo.models.image_augmentation import Augmentation
from zoo.training.run import make_engine

CLASSES, STEPS, STOP = 3, 6, 3
RATE, MOMENTUM = 0.1, 0.9
# Each so large that it changes six steps by more than rounding does.
RADIUS, CLIP, MIXUP, SMOOTHING, LAYER_DECAY = 0.3, 0.3, 0.5, 0.2, 0.4
# Until the fifth step the average's memory is shorter than that, from the sixth on it is not.
EMA = 0.4
LEVERS = ("sam", "accumulation", "clipping", "averages", "mixup", "label smoothing", "class weights", "layer decay")
# Each lever is on in the first run and in another pair of the five others, so off in three of them: two such threes
# share one, and neither holds the other.
RUNS = [frozenset(LEVERS)] + [
    frozenset(lever for lever, pair in zip(LEVERS, itertools.combinations(range(5), 2)) if number in pair)
    for number in range(5)
]


def data() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(3)
    x = draw.normal(size=(29, 2, 4)).astype(np.float32)
    # Classes of different sizes.
    return {"x": x, "y": np.digitize(x[:, 0, 0] + x[:, 1, 2], [0.2, 1.3]).astype(np.int32)}


# Two steps of an epoch, of 16 rows and of 13.
BATCHES = Batches(data(), 16, seed=5)


def model() -> keras.Model:
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Flatten(), keras.layers.Dense(6, "tanh"), keras.layers.Dense(CLASSES)]
    return keras.Sequential([keras.Input((2, 4)), *layers])


def engine(levers, replicas):
    smoothing = SMOOTHING if "label smoothing" in levers else 0.0
    augmentation = Augmentation(mixup=MIXUP if "mixup" in levers else 0.0)
    imbalance = class_imbalance.make("weights" if "class weights" in levers else "none", data()["y"], CLASSES)
    config = SmallConfig(
        optimizer="momentum",
        learning_rate=RATE,
        sam="sam" if "sam" in levers else "none",
        sam_radius=RADIUS,
        accumulate=2 if "accumulation" in levers else 1,
        clip_norm=CLIP if "clipping" in levers else 0.0,
        ema=EMA if "averages" in levers else 0.0,
        layer_decay=LAYER_DECAY if "layer decay" in levers else 1.0,
        exact=True,
    )
    strategy = devices.mirrored_cpus(replicas) if replicas > 1 else devices.strategy("cpu")
    with strategy.scope():
        experiment = Experiment(
            model(),
            lambda *given: cnn_classifier.forward(*given, smoothing, imbalance, augmentation),
            train=BATCHES,
        )
    return make_engine(strategy, config, experiment, STEPS)


def by_hand(levers):
    """The weights and their averages after all steps, in float64."""
    weights = [weight.astype(np.float64) for weight in model().get_weights()]
    speeds, averages = [np.zeros_like(weight) for weight in weights], weights
    rate = RATE * (LAYER_DECAY if "layer decay" in levers else 1.0)
    rates = [rate, rate, RATE, RATE]
    for step in range(STEPS):
        gradient = functools.partial(slopes, *examples(levers, step))
        slope = gradient(weights)
        if "sam" in levers:
            slope = gradient([w + RADIUS * g / norm(slope) for w, g in zip(weights, slope)])
        if "clipping" in levers and norm(slope) > CLIP:
            slope = [g * (CLIP / norm(slope)) for g in slope]
        speeds = [MOMENTUM * v - r * g for v, r, g in zip(speeds, rates, slope)]
        weights = [w + v for w, v in zip(weights, speeds)]
        memory = min(EMA, (2 + step) / (11 + step))
        averages = [memory * a + (1 - memory) * w for a, w in zip(averages, weights)]
    return [*weights, *averages] if "averages" in levers else weights


def examples(levers, step):
    """Inputs `[rows, 8]` and targets `[rows, classes]` of a step, whose rows sum to the weights of the examples."""
    batch, counts = BATCHES.at(step)
    rows = len(counts)
    targets = np.eye(CLASSES)[batch["y"]]
    if "label smoothing" in levers:
        targets = (1 - SMOOTHING) * targets + SMOOTHING / CLASSES
    if "class weights" in levers:
        sizes = np.bincount(data()["y"])
        targets = targets * (sizes.sum() / CLASSES / sizes)[batch["y"]][:, None]
    x = batch["x"].reshape(rows, -1).astype(np.float64)
    if "mixup" in levers:
        partner = np.arange(rows) ^ 1
        share = np.where(counts[partner] > 0, shares(batch["x"], step), 1.0)[:, None]
        x, targets = share * x + (1 - share) * x[partner], share * targets + (1 - share) * targets[partner]
    return x, targets * counts[:, None] / counts.sum()


def shares(x, step):
    """What `mixup` draws in a step."""
    with randomness.scope(0, tf.constant(step), tf.constant(0), tf.ones([len(x)])):
        return image_augmentation.augment(tf.constant(x), Augmentation(mixup=MIXUP)).share.numpy()


def slopes(x, targets, weights):
    """The gradient of the sum of targets times -log softmax, for the kernel and bias of both layers."""
    kernel, bias, top, top_bias = weights
    hidden = np.tanh(x @ kernel + bias)
    logits = hidden @ top + top_bias
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = odds / odds.sum(axis=1, keepdims=True) * targets.sum(axis=1, keepdims=True) - targets
    below = error @ top.T * (1 - hidden**2)
    return [x.T @ below, below.sum(axis=0), hidden.T @ error, error.sum(axis=0)]


def norm(arrays):
    return np.sqrt(sum(np.sum(array**2) for array in arrays))


def trained(engine):
    return [*engine.model.get_weights(), *(np.array(average) for average in engine.task.averages)]


def furthest(left, right):
    return max(np.abs(one - other).max() for one, other in zip(left, right, strict=True))


def same_bits(left, right):
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


def test_the_runs_cover_all_pairs():
    for one, other in itertools.combinations(LEVERS, 2):
        assert {(one in run, other in run) for run in RUNS} == set(itertools.product([False, True], repeat=2))


@pytest.mark.parametrize("lever", [lever for lever in LEVERS if lever != "accumulation"])
def test_each_lever_matters_beside_all_others(lever):
    """By hand, which is what the engine is compared with; accumulation shall not matter."""
    everything = by_hand(LEVERS)
    without = by_hand([other for other in LEVERS if other != lever])
    assert len(without) < len(everything) if lever == "averages" else furthest(everything, without) > 1e-3


@pytest.mark.parametrize("levers", RUNS, ids=lambda levers: "+".join(lever for lever in LEVERS if lever in levers))
def test_any_devices_and_a_stop_in_between(levers):
    """A run on one device is as by hand, on two it has the same bits, and one that stops on two goes on on one."""
    states, halves = {}, {}
    for replicas in (1, 2):
        made = engine(levers, replicas)
        made.train(BATCHES, 0, STOP)
        halves[replicas] = made.state()
        made.train(BATCHES, STOP, STEPS - STOP)
        states[replicas] = made.state()
        if replicas == 1:
            assert furthest(trained(made), by_hand(levers)) < 2e-6
    assert same_bits(halves[1], halves[2]) and same_bits(states[1], states[2])
    resumed = engine(levers, 1)
    resumed.load(halves[2])
    resumed.train(BATCHES, STOP, STEPS - STOP)
    assert same_bits(resumed.state(), states[1])
