"""Pose search (`--refine=input`): each image is rotated, scaled and shifted until it looks like a class.

The transformation of Jaderberg et al., "Spatial transformer networks", 2015, without the network that would have to be
trained for it: the four numbers of each image are searched at prediction time. The search does not maximise confidence,
which some wrong rotation can always win. It minimises the squared Mahalanobis distance of the features to the nearest
class mean of validation (Lee et al., "A simple unified framework for detecting out-of-distribution samples and
adversarial attacks", 2018, section 2.1), plus a penalty on large changes. Whether the predictions are then typical is
checked on other numbers, the logits, and for all recent images together: see `zoo.adaptation.guards`.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.adaptation import guards
from zoo.adaptation.stage import LogitsFn, StreamContext
from zoo.errors import BadInput
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.cloning import reading
from zoo.predict.predictors.predictor import Classifier

# A change of an image: angle in radians, logarithm of the scale, and shifts right and down as shares of the sides.
_DEGREES = np.deg2rad(np.array([-60.0, -45, -30, -15, 15, 30, 45, 60]))
_SIZES = np.array([-0.3, 0.2, 0.4, 0.6])
_MOVES = np.array([-1.0, -0.5, 0.0, 0.5, 1.0]) / 7
# First a coarse search over one or two of the numbers, then coordinate descent over all in smaller and smaller steps.
_COARSE = np.array(
    [(0, 0, right, down) for right in _MOVES for down in _MOVES]
    + [(angle, 0, 0, 0) for angle in _DEGREES]
    + [(0, size, 0, 0) for size in _SIZES]
)
_STEPS = np.array([(0.17, 0.15, 1 / 19, 1 / 19), (0.17, 0.15, 1 / 28, 1 / 28), (0.09, 0.08, 1 / 40, 1 / 40)])
# Penalty: a change of one of these widths costs a fifth of the usual distance.
_WIDTH, _COST = np.array([0.5, 0.4, 0.11, 0.11]), 0.2
# Ridge, as a share of the mean variance: keeps the covariance of the features invertible.
_RIDGE = 1e-2
# No search below this ratio of the median distance to that of validation.
_USUAL = 1.3
# Largest score after a successful search, in units of validation's; images that no pose explains have more.
_GOOD = 6.0
# Images whose distances are computed at a time; limits the memory.
_PART = 1000
# Fewest recent images for a decision, which rests on a median.
_FEWEST = 16


class Pose:
    """Shows the model each image rotated, scaled and shifted to look most like a class."""

    name, target = "pose", "input"
    # Rotated and shifted images reach 0.07 to 0.33, images that no pose explains 0.35 and more (measured on corrupted
    # training images).
    max_score_ratio, restarts_each_batch = 0.3, True

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Measures the features of each class.

        Raises:
            BadInput: the model does not take images.
        """
        if not predictor.takes_images:
            raise BadInput("--refine=input: the model takes no images, which could be rotated or shifted")
        self._guards = guards.Guards(source)
        last = predictor.model.layers[-1].input
        features = reading(predictor, last).logits(source.examples).astype(np.float64)  # [examples, width]
        classes = sorted(set(source.labels.tolist()))
        means = np.stack([features[source.labels == label].mean(axis=0) for label in classes])  # [classes, width]
        spread = features - means[np.searchsorted(classes, source.labels)]  # [examples, width]
        covariance = spread.T @ spread / len(spread)  # [width, width]
        covariance += _RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        # The Mahalanobis distance is the Euclidean one of whitened features.
        whiten = np.linalg.cholesky(np.linalg.inv(covariance))
        self._costs = _costs(keras.Model(predictor.model.inputs, last), whiten, means @ whiten)
        self._usual = self._median_distance(source.examples)
        self._on, self._cache = False, []

    def propose(self, context: StreamContext) -> str:
        """Searches the poses of the recent images, if their features are far from those of validation."""
        recent, batch = context.recent, context.batch
        earlier, self._cache = self._cache, []
        if len(recent) < _FEWEST:
            return f"{len(recent)} images are too few, expected {_FEWEST}"
        if self._median_distance(recent) < _USUAL * self._usual:
            return "the images have not shifted"
        aligned = self._align_recent(context, earlier)
        self._cache = [(recent, aligned), (batch, aligned[len(recent) - len(batch) :])]
        after = self._guards.score(context.forward(aligned))
        if self._guards.times_usual(after) > _GOOD:
            return f"no pose explains the images: {after.error:.0%} of the predictions would be wrong"
        self._on = True
        return ""

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Logits of the aligned images; of the images themselves while the stage is off."""
        return inner(self._align(examples)) if self._on else inner(examples)

    def state(self) -> bool:
        """Whether images are aligned."""
        return self._on

    def load(self, state: bool) -> None:
        """Turns it on or off."""
        self._on = state

    def aligned(self, images: np.ndarray) -> np.ndarray:
        """The images in the poses that look most like a class, uint8 of the same shape."""
        best = np.zeros((len(images), 4))
        costs = np.full(len(images), np.inf)
        for change in _COARSE:
            self._improve(images, np.tile(change, (len(images), 1)), best, costs)
        for step in _STEPS:
            for number in range(4):
                for sign in (-1.0, 1.0):
                    self._improve(images, best + sign * step * (np.arange(4) == number), best, costs)
        return warped(images, best)

    def _improve(self, images: np.ndarray, changes: np.ndarray, best: np.ndarray, costs: np.ndarray) -> None:
        """Replaces the best changes `[examples, 4]` and their costs `[examples]` where `changes` cost less."""
        new = self._costs(tf.constant(images), tf.constant(changes, tf.float32)).numpy()
        better = new < costs
        best[better], costs[better] = changes[better], new[better]

    def _median_distance(self, images: np.ndarray) -> float:
        """Median squared Mahalanobis distance of unchanged images to the nearest class mean, per feature."""
        parts = [images[first : first + _PART] for first in range(0, len(images), _PART)]
        costs = [self._costs(tf.constant(part), tf.zeros([len(part), 4])).numpy() for part in parts]
        return float(np.median(np.concatenate(costs)))

    def _align_recent(self, context: StreamContext, earlier: list) -> np.ndarray:
        """The recent images, aligned; those of earlier batches are not searched again."""
        kept = len(context.recent) - len(context.batch)
        if not earlier or kept > len(earlier[0][1]):
            return self.aligned(context.recent)
        old = earlier[0][1]
        return np.concatenate([old[len(old) - kept :], self.aligned(context.recent[kept:])])

    def _align(self, examples: Any) -> np.ndarray:
        cached = next((aligned for images, aligned in self._cache if images is examples), None)
        return self.aligned(examples) if cached is None else cached


def _costs(features: keras.Model, whiten: np.ndarray, means: np.ndarray) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """A function from images and changes `[examples, 4]` to costs `[examples]`.

    A cost is the squared Mahalanobis distance to the nearest class mean, per feature, plus the penalty of the change.
    """
    whiten, means = tf.constant(whiten, tf.float32), tf.constant(means, tf.float32)
    shape = features.inputs[0].shape

    def costs(images: tf.Tensor, changes: tf.Tensor) -> tf.Tensor:
        x = tf.cast(features(_warped(images, changes), training=False), tf.float32) @ whiten  # [examples, width]
        # Squared distances to all means, [examples, classes].
        squares = tf.reduce_sum(x**2, 1, True) - 2 * x @ tf.transpose(means) + tf.reduce_sum(means**2, 1)
        distance = tf.reduce_min(squares, axis=1) / whiten.shape[0]  # [examples]
        return distance + _COST * tf.reduce_sum((changes / tf.constant(_WIDTH, tf.float32)) ** 2, axis=1)

    # For any number of images: otherwise each number would be traced.
    signature = [tf.TensorSpec(shape, features.inputs[0].dtype), tf.TensorSpec([None, 4], tf.float32)]
    return tf.function(costs, signature, autograph=False)


def warped(images: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Rotates, scales and shifts images about their centre; bilinear, and the border is repeated outside.

    Args:
        images: uint8 `[examples, height, width]` or `[examples, height, width, channels]`.
        changes: `[examples, 4]`: the content is rotated by `-angle` in radians, scaled by `exp(size)`, and shifted left
            and up by shares of the sides.

    Returns:
        Images, uint8 of the same shape.
    """
    return _warped(tf.constant(images), tf.constant(changes, tf.float32)).numpy()


def _warped(images: tf.Tensor, changes: tf.Tensor) -> tf.Tensor:
    height, width = images.shape[1:3]
    channels = images.shape[3] if images.shape.rank == 4 else 1
    angle, size, right, down = tf.unstack(changes, axis=1)  # [examples] each
    cos, sin = tf.cos(angle) * tf.exp(-size), tf.sin(angle) * tf.exp(-size)
    middle = (width - 1) / 2, (height - 1) / 2
    across = middle[0] + right * width - (cos * middle[0] - sin * middle[1])
    along = middle[1] + down * height - (sin * middle[0] + cos * middle[1])
    zero = tf.zeros_like(angle)
    pixels = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(tf.reshape(images, [-1, height, width, channels]), tf.float32),
        transforms=tf.stack([cos, -sin, across, sin, cos, along, zero, zero], axis=1),  # [examples, 8]
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )  # [examples, height, width, channels]
    pixels = tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), images.dtype)
    return tf.reshape(pixels, tf.shape(images))  # [examples, height, width] or [examples, height, width, channels]
