"""A stage of `zoo.adaptation.refiner` on the input: each image is turned, sized and moved until the model knows it.

The transformer of Jaderberg et al., "Spatial transformer networks" (2015), without the network that would have to be
trained for it: the four numbers of each image are searched at prediction time. What is sought is not confidence, which
some wrong turn can always win, but features like those of a class in validation (the distance of Lee et al., "A simple
unified framework for detecting out-of-distribution samples and adversarial attacks", 2018, section 2.1), less a penalty
on going far. Whether the answers then are typical is judged by other numbers, the logits, and for all recent images at
once: see `zoo.adaptation.guards`.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.adaptation import guards
from zoo.adaptation.refiner import Forward, StreamContext
from zoo.errors import BadInput
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.cloning import reading
from zoo.predict.predictors.predictor import Classifier

# An image's change: angle in radians, logarithm of the size, and the move right and down as shares of the sides.
_DEGREES = np.deg2rad(np.array([-60.0, -45, -30, -15, 15, 30, 45, 60]))
_SIZES = np.array([-0.3, 0.2, 0.4, 0.6])
_MOVES = np.array([-1.0, -0.5, 0.0, 0.5, 1.0]) / 7
# Where one or two of the numbers are searched roughly; then all are, one after the other, in smaller and smaller steps.
_COARSE = np.array(
    [(0, 0, right, down) for right in _MOVES for down in _MOVES]
    + [(angle, 0, 0, 0) for angle in _DEGREES]
    + [(0, size, 0, 0) for size in _SIZES]
)
_STEPS = np.array([(0.17, 0.15, 1 / 19, 1 / 19), (0.17, 0.15, 1 / 28, 1 / 28), (0.09, 0.08, 1 / 40, 1 / 40)])
# What is as usual as any other; a change of so much costs as much as a fifth of the usual distance.
_WIDTH, _COST = np.array([0.5, 0.4, 0.11, 0.11]), 0.2
# Of the features' mean variance: keeps their covariance invertible.
_RIDGE = 1e-2
# Features nearer to a class than this many times the usual distance ask for no change.
_USUAL = 1.3
# A pose that was found leaves the score at so many times that of validation at most; what no pose explains leaves more.
_GOOD = 6.0
# Images whose distances are computed at a time; it bounds the memory.
_PART = 1000
# Of the recent images that a decision is made on; it is a median.
_FEWEST = 16


class Pose:
    """Shows the model each image as it would look turned, sized and moved to be most like a class."""

    name, target = "pose", "input"
    # Turned and moved images come to 0.07 - 0.33, others, that no turn explains, to 0.35 and more (measured on training
    # images that were damaged).
    max_score_ratio, restarts_each_batch = 0.3, True

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Measures the features of each class.

        Raises:
            BadInput: the examples are no images.
        """
        if not predictor.takes_images:
            raise BadInput("--refine=input: the model takes no images, which could be turned or moved")
        self._guards = guards.Guards(source)
        last = predictor.model.layers[-1].input
        found = reading(predictor, last).logits(source.examples).astype(np.float64)
        classes = sorted(set(source.labels.tolist()))
        means = np.stack([found[source.labels == label].mean(axis=0) for label in classes])
        spread = found - means[np.searchsorted(classes, source.labels)]
        covariance = spread.T @ spread / len(spread)
        covariance += _RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        # Distances are those of Euclid after this.
        whiten = np.linalg.cholesky(np.linalg.inv(covariance))
        self._costs = _costs(keras.Model(predictor.model.inputs, last), whiten, means @ whiten)
        self._usual = self._far(source.examples)
        self._on, self._known = False, []

    def propose(self, seen: StreamContext) -> str:
        """Searches the batch's images, where the answers are unusual."""
        earlier, self._known = self._known, []
        if len(seen.recent) < _FEWEST:
            return f"{len(seen.recent)} images are too few, expected {_FEWEST}"
        if self._far(seen.recent) < _USUAL * self._usual:
            return "the images look as usual"
        self._known = [(seen.recent, self._recent(seen, earlier))]
        self._known.append((seen.batch, self._known[0][1][len(seen.recent) - len(seen.batch) :]))
        after = self._guards.score(seen.forward(self._known[0][1]))
        if self._guards.times_usual(after) > _GOOD:
            return f"no pose makes the images known: {after.error:.0%} of the answers would be wrong"
        self._on = True
        return ""

    def logits(self, examples: Any, inner: Forward) -> np.ndarray:
        """Those of the images as they were found, or as they are."""
        return inner(self._shown(examples)) if self._on else inner(examples)

    def state(self) -> bool:
        """Whether images are changed."""
        return self._on

    def load(self, state: bool) -> None:
        """Sets it."""
        self._on = state

    def aligned(self, images: np.ndarray) -> np.ndarray:
        """The images as they are most like a class, uint8 of the same shape."""
        found = np.zeros((len(images), 4))
        best = np.full(len(images), np.inf)
        for change in _COARSE:
            self._keep(images, np.tile(change, (len(images), 1)), found, best)
        for step in _STEPS:
            for number in range(4):
                for sign in (-1.0, 1.0):
                    self._keep(images, found + sign * step * (np.arange(4) == number), found, best)
        return warped(images, found)

    def _keep(self, images: np.ndarray, changes: np.ndarray, found: np.ndarray, best: np.ndarray) -> None:
        """Where the changes are better than what was found, they take its place."""
        costs = self._costs(tf.constant(images), tf.constant(changes, tf.float32)).numpy()
        better = costs < best
        found[better], best[better] = changes[better], costs[better]

    def _far(self, images: np.ndarray) -> float:
        """The median distance to the nearest class, of images as they are."""
        parts = [images[first : first + _PART] for first in range(0, len(images), _PART)]
        costs = [self._costs(tf.constant(part), tf.zeros([len(part), 4])).numpy() for part in parts]
        return float(np.median(np.concatenate(costs)))

    def _recent(self, seen: StreamContext, earlier: list) -> np.ndarray:
        """The recent images, aligned; those that were so at the batch before are not searched again."""
        new = len(seen.batch)
        kept = len(seen.recent) - new
        if not earlier or kept > len(earlier[0][1]):
            return self.aligned(seen.recent)
        old = earlier[0][1]
        return np.concatenate([old[len(old) - kept :], self.aligned(seen.recent[kept:])])

    def _shown(self, examples: Any) -> np.ndarray:
        known = next((aligned for images, aligned in self._known if images is examples), None)
        return self.aligned(examples) if known is None else known


def _costs(features: keras.Model, whiten: np.ndarray, means: np.ndarray) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """What changes cost: the changed images' distances to the nearest class, and the penalties of the changes."""
    whiten, means = tf.constant(whiten, tf.float32), tf.constant(means, tf.float32)
    shape = features.inputs[0].shape

    def costs(images: tf.Tensor, changes: tf.Tensor) -> tf.Tensor:
        found = tf.cast(features(_warped(images, changes), training=False), tf.float32) @ whiten
        squares = tf.reduce_sum(found**2, 1, True) - 2 * found @ tf.transpose(means) + tf.reduce_sum(means**2, 1)
        far = tf.reduce_min(squares, axis=1) / whiten.shape[0]
        return far + _COST * tf.reduce_sum((changes / tf.constant(_WIDTH, tf.float32)) ** 2, axis=1)

    # Of any number of images, or each number would be traced.
    signature = [tf.TensorSpec(shape, features.inputs[0].dtype), tf.TensorSpec([None, 4], tf.float32)]
    return tf.function(costs, signature, autograph=False)


def warped(images: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Turns, sizes and moves images about their middle; bilinear, and the border goes on outside.

    Args:
        images: uint8 `[examples, height, width]` or `[examples, height, width, channels]`.
        changes: `[examples, 4]`: the content is turned by `-angle` in radians, made `exp(size)` times as large, and
            moved left and up by shares of the sides.

    Returns:
        uint8 of the images' shape.
    """
    return _warped(tf.constant(images), tf.constant(changes, tf.float32)).numpy()


def _warped(images: tf.Tensor, changes: tf.Tensor) -> tf.Tensor:
    height, width = images.shape[1:3]
    angle, size, right, down = tf.unstack(changes, axis=1)
    cos, sin = tf.cos(angle) * tf.exp(-size), tf.sin(angle) * tf.exp(-size)
    middle = (width - 1) / 2, (height - 1) / 2
    across = middle[0] + right * width - (cos * middle[0] - sin * middle[1])
    along = middle[1] + down * height - (sin * middle[0] + cos * middle[1])
    none = tf.zeros_like(angle)
    found = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(
            tf.reshape(images, [-1, height, width, images.shape[3] if images.shape.rank == 4 else 1]), tf.float32
        ),
        transforms=tf.stack([cos, -sin, across, sin, cos, along, none, none], axis=1),
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    return tf.reshape(tf.cast(tf.clip_by_value(tf.round(found), 0, 255), images.dtype), tf.shape(images))
