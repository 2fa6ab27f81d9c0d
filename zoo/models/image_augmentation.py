"""Random changes of training images, each a function of the run's seed, the step and the image's place in the batch.

They draw by `keras.random`, so inside the engine a batch that replicas, micro-batches or slices share is changed as on
one device, and a resumed run as an uninterrupted one. Mixing needs a partner: rows 2k and 2k + 1 of the global batch
are partners, which are never apart where each slice has an even number of rows. As each epoch has an order of its own,
partners are as random as those of a permutation.
"""

from typing import NamedTuple

import keras
import tensorflow as tf

from zoo import randomness
from zoo.errors import BadInput


class Augmentation(NamedTuple):
    """Changes of images; the default changes nothing.

    Attributes:
        flip: whether each image is mirrored, left to right, with a probability of one half.
        shift: largest shift along each axis as a share of the side; the edge is repeated.
        crop: smallest area of a random part that is resized to the whole (Szegedy et al., "Going deeper with
            convolutions", 2015), as a share of the image; its sides are in the image's proportion up to 3/4 and 4/3.
            1: no crop.
        cutout: side of a grey square at a random place as a share of the side (DeVries and Taylor, "Improved
            regularization of convolutional neural networks with cutout", 2017); half of the images have one. 0: none.
        mixup: parameter of the Beta distribution of an image's share in a mixture with its partner (Zhang et al.,
            "mixup: beyond empirical risk minimization", 2018). 0: no mixture.
        cutmix: the same for the area that is not covered by a part of the partner (Yun et al., "CutMix", 2019). With
            both, each image has one of them, with a probability of one half. 0: none.
    """

    flip: bool = False
    shift: float = 0.0
    crop: float = 1.0
    cutout: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def mixes(self) -> bool:
        """Whether images are mixed."""
        return self.mixup > 0 or self.cutmix > 0


class Mixed(NamedTuple):
    """Augmented images and what they show.

    Attributes:
        x: images in the shape and dtype they had.
        partner: int32 `[batch]`, the row of each image's partner in the slice; None where nothing is mixed.
        share: float32 `[batch]`, the share of the image itself; None where nothing is mixed.
    """

    x: tf.Tensor
    partner: tf.Tensor | None = None
    share: tf.Tensor | None = None


def augment(x: tf.Tensor, augmentation: Augmentation, weights: tf.Tensor | None = None) -> Mixed:
    """Changes a slice of a batch.

    Args:
        x: `[batch, height, width]` or `[batch, height, width, channels]`, of integers or floats.
        augmentation: what is done.
        weights: example weights `[batch]`; an example of weight 0 is not mixed into its partner.

    Raises:
        BadInput: images are mixed and the slice has an odd number of rows.
    """
    if augmentation == Augmentation():
        return Mixed(x)
    dtype, rank = x.dtype, x.shape.rank
    images = tf.cast(x if rank == 4 else x[..., None], tf.float32)
    images = _moved(images, augmentation)
    if augmentation.cutout:
        images = _with_cutout(images, augmentation.cutout)
    partner = share = None
    if augmentation.mixes:
        images, partner, share = _mixed(images, augmentation, weights)
    images = images if rank == 4 else images[..., 0]
    # Pixels stay what the model reads; half a level of 255 is less than what a JPEG loses.
    return Mixed(tf.cast(tf.round(images), dtype) if dtype.is_integer else tf.cast(images, dtype), partner, share)


def _uniform(rows: int, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
    return keras.random.uniform((rows,), low, high)


def _moved(images: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    """Flips, shifts and crops in one resampling: each axis has a scale and an offset for each image."""
    if not (augmentation.flip or augmentation.shift or augmentation.crop < 1):
        return images
    rows = images.shape[0]
    # In units of the side, from -1/2 to 1/2: position in the source = offset + scale * position in the result.
    scale_y, scale_x = tf.ones([rows]), tf.ones([rows])
    offset_y, offset_x = tf.zeros([rows]), tf.zeros([rows])
    if augmentation.crop < 1:
        area = _uniform(rows, augmentation.crop, 1.0)
        stretch = tf.exp(_uniform(rows, -1.0, 1.0) * tf.math.log(4.0 / 3.0) / 2)
        scale_y = tf.minimum(tf.sqrt(area) * stretch, 1.0)
        scale_x = tf.minimum(tf.sqrt(area) / stretch, 1.0)
        offset_y = (1.0 - scale_y) * _uniform(rows, -0.5, 0.5)
        offset_x = (1.0 - scale_x) * _uniform(rows, -0.5, 0.5)
    if augmentation.shift:
        # Whole pixels, which need no interpolation.
        offset_y += _whole(_uniform(rows, -1.0, 1.0) * augmentation.shift, images.shape[1])
        offset_x += _whole(_uniform(rows, -1.0, 1.0) * augmentation.shift, images.shape[2])
    if augmentation.flip:
        scale_x = tf.where(_uniform(rows) < 0.5, -scale_x, scale_x)
    along_y = _interpolation(scale_y, offset_y, images.shape[1])
    along_x = _interpolation(scale_x, offset_x, images.shape[2])
    return tf.einsum("bij,bjkc,blk->bilc", along_y, images, along_x)


def _whole(share: tf.Tensor, side: int) -> tf.Tensor:
    return tf.round(share * side) / side


def _interpolation(scale: tf.Tensor, offset: tf.Tensor, side: int) -> tf.Tensor:
    """Weights of the source pixels of each pixel along an axis, `[batch, side, side]`: linear, the edge repeated."""
    position = (tf.range(side, dtype=tf.float32) + 0.5) / side - 0.5
    source = (offset[:, None] + scale[:, None] * position + 0.5) * side - 0.5  # [batch, side]
    source = tf.clip_by_value(source, 0.0, side - 1.0)
    return tf.maximum(0.0, 1.0 - tf.abs(source[:, :, None] - tf.range(side, dtype=tf.float32)))


def _box(height: int, width: int, side: tf.Tensor) -> tf.Tensor:
    """A box at a random place for each image, its sides a share of the image's: float32 `[batch, height, width, 1]`.

    Its centre is anywhere in the image, so a part of it may lie outside.
    """
    rows = side.shape[0]
    inside = []
    for size in (height, width):
        centre = _uniform(rows) * size
        half = side * size / 2
        place = tf.range(size, dtype=tf.float32) + 0.5
        inside.append(tf.abs(place - centre[:, None]) <= half[:, None])
    return tf.cast(inside[0][:, :, None, None] & inside[1][:, None, :, None], tf.float32)


def _with_cutout(images: tf.Tensor, side: float) -> tf.Tensor:
    rows, height, width = images.shape[:3]
    box = _box(height, width, tf.where(_uniform(rows) < 0.5, side, 0.0))
    mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
    return images * (1.0 - box) + mean * box


def _mixed(
    images: tf.Tensor, augmentation: Augmentation, weights: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    rows, height, width = images.shape[:3]
    scope = randomness.current()
    if rows % 2 and scope is not None and scope.split:
        raise BadInput(
            f"--mixup and --cutmix mix pairs of neighbouring rows, and the batch is split in slices of {rows} rows: "
            "choose a --batch_size that gives each device and micro-batch an even number"
        )
    partner = tf.bitwise.bitwise_xor(tf.range(rows), 1)
    # The last row of an odd batch has no partner.
    partner = tf.where(partner < rows, partner, tf.range(rows))
    counts = tf.ones([rows]) if scope is None or scope.row_weights is None else tf.cast(scope.row_weights, tf.float32)
    if weights is not None:
        counts *= tf.cast(weights, tf.float32)
    # Padding of a short batch, and examples of weight 0, must not reach the others.
    is_mixed = (tf.gather(counts, partner) > 0) & (partner != tf.range(rows))
    others = tf.gather(images, partner)
    by_cutmix = tf.zeros([rows], tf.bool)
    if augmentation.cutmix:
        by_cutmix = _uniform(rows) < (0.5 if augmentation.mixup else 1.0)
    share = tf.ones([rows])
    cover = tf.zeros([rows, 1, 1, 1])
    if augmentation.mixup:
        share = keras.random.beta((rows,), augmentation.mixup, augmentation.mixup)
        # The image itself is the larger part, so that its partner, which has its own mixture, is not nearly the same.
        share = tf.maximum(share, 1.0 - share)
        cover = (1.0 - share)[:, None, None, None]
    if augmentation.cutmix:
        drawn = keras.random.beta((rows,), augmentation.cutmix, augmentation.cutmix)
        box = _box(height, width, tf.sqrt(1.0 - drawn))
        area = tf.reduce_mean(box, axis=(1, 2, 3))
        share = tf.where(by_cutmix, 1.0 - area, share)
        cover = tf.where(by_cutmix[:, None, None, None], box, cover)
    share = tf.where(is_mixed, share, 1.0)
    cover = tf.where(is_mixed[:, None, None, None], cover, 0.0)
    return images * (1.0 - cover) + others * cover, partner, share
