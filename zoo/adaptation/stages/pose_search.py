"""Search for the pose of an image in which a model's features look most like a class.

See pose.py, which decides whether what was found is used.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

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
_RIDGE, _TINY = 1e-2, 1e-9
# Images whose distances are computed at a time; limits the memory.
_PART = 1000


class PoseSearch:
    """Searches with one model, as its weights are when called.

    Args:
        predictor: reads the features.
        source: the validation split, whose features tell how a class looks.
    """

    def __init__(self, predictor: Classifier, source: HeldOut):
        last = _features(predictor.model)
        features = reading(predictor, last).logits(source.examples).astype(np.float64)  # [examples, width]
        classes = sorted(set(source.labels.tolist()))
        means = np.stack([features[source.labels == label].mean(axis=0) for label in classes])  # [classes, width]
        spread = features - means[np.searchsorted(classes, source.labels)]  # [examples, width]
        covariance = spread.T @ spread / len(spread)  # [width, width]
        # Features that never vary have no variance.
        covariance += (_RIDGE * np.trace(covariance) / len(covariance) + _TINY) * np.eye(len(covariance))
        # The Mahalanobis distance is the Euclidean one of whitened features.
        whiten = np.linalg.cholesky(np.linalg.inv(covariance))
        costs = _costs(keras.Model(predictor.model.inputs, last), whiten, means @ whiten)
        image = tf.TensorSpec((None, *predictor.shape), predictor.dtype)
        # For any number of images: otherwise each number would be traced. Partials: TensorFlow would take those of
        # several stages for one function that is traced again and again, and warn.
        self._costs = tf.function(
            functools.partial(costs), [image, tf.TensorSpec([None, 4], tf.float32)], autograph=False
        )
        self._coarse = tf.function(functools.partial(_coarse_search, costs), [image], autograph=False)
        found = [tf.TensorSpec([None, 4], tf.float32), tf.TensorSpec([None], tf.float32)]
        self._descent = tf.function(functools.partial(_coordinate_descent, costs), [image, *found], autograph=False)

    def aligned(self, images: np.ndarray) -> np.ndarray:
        """The images in the poses that look most like a class, of the same shape and dtype."""
        changes = [np.zeros((0, 4), np.float32)]
        # Two changes of each image are tried at a time, and before that all coarse ones.
        for part in _parts(images, _PART // 2):
            found = [self._coarse(tf.constant(few)) for few in _parts(part, _PART // len(_COARSE))]
            best, costs = (tf.concat(values, axis=0) for values in zip(*found, strict=True))
            changes.append(self._descent(tf.constant(part), best, costs).numpy())
        return warped(images, np.concatenate(changes))

    def distances(self, images: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distances `[examples]` of unchanged images to the nearest class mean, per feature."""
        costs = [self._costs(tf.constant(part), tf.zeros([len(part), 4])).numpy() for part in _parts(images, _PART)]
        return np.concatenate(costs)


def _features(model: keras.Model) -> Any:
    """The tensor `[examples, width]` that is compared with the classes: the inputs of the last layer.

    Where these are several, or have places, it is the model's output.
    """
    last = model.layers[-1].input
    return last if isinstance(last, keras.KerasTensor) and len(last.shape) == 2 else model.output


def _costs(features: keras.Model, whiten: np.ndarray, means: np.ndarray) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """A function from images and changes `[examples, 4]` to costs `[examples]`.

    A cost is the squared Mahalanobis distance to the nearest class mean, per feature, plus the penalty of the change.
    """
    whiten, means = tf.constant(whiten, tf.float32), tf.constant(means, tf.float32)

    def costs(images: tf.Tensor, changes: tf.Tensor) -> tf.Tensor:
        x = tf.cast(features(_warped(images, changes), training=False), tf.float32) @ whiten  # [examples, width]
        # Squared distances to all means, [examples, classes].
        squares = tf.reduce_sum(x**2, 1, True) - 2 * x @ tf.transpose(means) + tf.reduce_sum(means**2, 1)
        distance = tf.reduce_min(squares, axis=1) / whiten.shape[0]  # [examples]
        return distance + _COST * tf.reduce_sum((changes / tf.constant(_WIDTH, tf.float32)) ** 2, axis=1)

    return costs


# Costs `[examples]` of images and changes `[examples, 4]`.
_Costs = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def _coarse_search(costs: _Costs, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The coarse changes `[examples, 4]` of least cost, and their costs `[examples]`."""
    coarse = tf.constant(_COARSE, tf.float32)  # [changes, 4]
    found = _tried(costs, images, tf.tile(coarse[:, None], [1, tf.shape(images)[0], 1]))  # [changes, examples]
    return tf.gather(coarse, tf.argmin(found, axis=0)), tf.reduce_min(found, axis=0)


def _coordinate_descent(costs: _Costs, images: tf.Tensor, best: tf.Tensor, cost: tf.Tensor) -> tf.Tensor:
    """Improves changes `[examples, 4]` of these costs `[examples]`, one number after the other."""
    # Each step of each number, down and up: [steps * 4, 2, 4].
    moves = np.array([np.diag(step)[number] * np.array([[-1.0], [1.0]]) for step in _STEPS for number in range(4)])
    moves = tf.constant(moves, tf.float32)

    def descend(number: tf.Tensor, best: tf.Tensor, cost: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        changes = best + moves[number][:, None]  # [2, examples, 4]
        down, up = tf.unstack(_tried(costs, images, changes))  # [examples] each
        best = tf.where((up < cost)[:, None], changes[1], best)
        best = tf.where((down < cost)[:, None], changes[0], best)
        return number + 1, best, tf.where(down < cost, down, tf.minimum(up, cost))

    return tf.while_loop(lambda number, *_: number < moves.shape[0], descend, (0, best, cost))[1]


def _tried(costs: _Costs, images: tf.Tensor, changes: tf.Tensor) -> tf.Tensor:
    """Costs `[changes, examples]` of several changes of each image, `[changes, examples, 4]`, in one pass."""
    number = changes.shape[0]
    copies = tf.tile(images, [number, *[1] * (images.shape.rank - 1)])  # [changes * examples, height, width, ...]
    return tf.reshape(costs(copies, tf.reshape(changes, [-1, 4])), [number, -1])


def _parts(images: np.ndarray, size: int) -> list[np.ndarray]:
    return [images[first : first + size] for first in range(0, len(images), size)]


def warped(images: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Rotates, scales and shifts images about their centre; bilinear, and the border is repeated outside.

    Args:
        images: uint8 or floats, `[examples, height, width]` or `[examples, height, width, channels]`.
        changes: `[examples, 4]`: the content is rotated by `-angle` in radians, scaled by `exp(size)`, and shifted left
            and up by shares of the sides.

    Returns:
        Images of the same shape and dtype; no value is below the least or above the largest of the image.
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
    if images.dtype.is_integer:
        pixels = tf.clip_by_value(tf.round(pixels), 0, 255)
    pixels = tf.cast(pixels, images.dtype)
    return tf.reshape(pixels, tf.shape(images))  # [examples, height, width] or [examples, height, width, channels]
