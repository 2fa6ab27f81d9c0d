"""Convolutional networks for images: a small residual network, and those of `keras.applications`."""

import difflib
import inspect
from collections.abc import Sequence

import keras

from zoo.errors import BadInput

# Side of an image from which the first convolution takes every second, every fourth pixel.
_SECOND, _FOURTH = 64, 128


def residual_network(
    shape: Sequence[int],
    classes: int,
    width: int = 24,
    depth: int = 1,
    *,
    dropout: float = 0.0,
    stochastic_depth: float = 0.0,
    dtype: str = "uint8",
    preprocessing: keras.layers.Layer | None = None,
) -> keras.Model:
    """A residual network (He et al., "Deep residual learning for image recognition", 2016).

    A convolution, then three stages of `depth` blocks; each stage halves the sides and doubles the channels, which
    start at `width`. A block is two 3 x 3 convolutions with batch normalisation (Ioffe and Szegedy, 2015), added to its
    input. Then the mean over all places, dropout and the logits. 28 x 28 x 1 with 10 classes has 175,522 parameters.

    Args:
        shape: shape of an image: `[height, width]` or `[height, width, channels]`.
        classes: number of logits.
        width: channels of the first stage.
        depth: blocks per stage.
        dropout: dropout rate before the logits.
        stochastic_depth: probability that an image skips the convolutions of the last block in training; those of block
            l of L have l / L of it (Huang et al., "Deep networks with stochastic depth", 2016, section 3).
        dtype: dtype of the input.
        preprocessing: first layer, on inputs of `shape`, so that the saved model takes raw pixels.

    Returns:
        A model from `[batch, *shape]` to logits float32 `[batch, classes]`.
    """
    inputs = keras.Input(tuple(shape), dtype=dtype)
    x = inputs if preprocessing is None else preprocessing(inputs)
    if len(shape) == 2:
        x = keras.layers.Reshape((*shape, 1))(x)
    side = min(shape[:2])
    stride = 1 if side < _SECOND else 2 if side < _FOURTH else 4
    x = _normalized(_convolution(width, 3 if stride == 1 else 7, stride)(x))
    for stage in range(3):
        for block in range(depth):
            skipping = stochastic_depth * (depth * stage + block + 1) / (3 * depth)
            x = _block(
                x, width * 2**stage, 2 if block == 0 else 1, skipping
            )  # [batch, height / 2^stage, ..., channels]
    x = keras.layers.GlobalAveragePooling2D()(x)
    if dropout:
        x = keras.layers.Dropout(dropout)(x)
    # float32 under any precision policy: the loss needs the logits' full range.
    return keras.Model(inputs, keras.layers.Dense(classes, dtype="float32")(x))


def _block(x, channels: int, stride: int, skipping: float = 0.0):
    y = _normalized(_convolution(channels, 3, stride)(x))
    # A block is the identity at first (Goyal et al., "Accurate, large minibatch SGD", 2017, section 5.1).
    y = _normalization(gamma_initializer="zeros")(_convolution(channels, 3)(y))
    if skipping:
        # One draw for an image, not for each of its numbers.
        y = keras.layers.Dropout(skipping, noise_shape=(None, 1, 1, 1))(y)
    if stride > 1 or x.shape[-1] != channels:
        x = _normalization()(_convolution(channels, 1, stride)(x))
    return keras.layers.Activation("relu")(keras.layers.Add()([x, y]))


def _normalization(**options) -> keras.layers.Layer:
    # Keras' 0.99 needs hundreds of steps to forget its start, more than a run on a small data set has.
    return keras.layers.BatchNormalization(momentum=0.9, **options)


def _normalized(x):
    return keras.layers.Activation("relu")(_normalization()(x))


def _convolution(channels: int, kernel: int, stride: int = 1) -> keras.layers.Layer:
    # The shift of the normalisation replaces the bias.
    return keras.layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, kernel_initializer="he_normal")


def names() -> list[str]:
    """The networks of `keras.applications`."""
    return [name for name in dir(keras.applications) if inspect.isfunction(getattr(keras.applications, name))]


def application(
    name: str,
    shape: Sequence[int],
    classes: int,
    *,
    weights: str = "",
    dropout: float = 0.0,
    dtype: str = "uint8",
    scale: float = 255.0,
) -> keras.Model:
    """A network of `keras.applications` with its own preprocessing inside and a new last layer.

    Grey images become three equal channels, which all of these networks can take.

    Args:
        name: one of `names()`, such as MobileNetV2.
        shape: shape of an image: `[height, width]` or `[height, width, channels]`.
        classes: number of logits.
        weights: "imagenet" for Keras' pretrained weights, which are downloaded; empty for random ones.
        dropout: dropout rate before the logits.
        dtype: dtype of the input.
        scale: largest value of a pixel.

    Returns:
        A model from `[batch, *shape]` to logits float32 `[batch, classes]`.

    Raises:
        BadInput: the name is unknown, or the network cannot take images of this shape.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(names())}"
        raise BadInput(f"--network is {name!r}: no network of keras.applications; {hint}")
    make = getattr(keras.applications, name)
    try:
        body = make(include_top=False, weights=weights or None, input_shape=(*shape[:2], 3), pooling="avg")
    except Exception as error:
        # ValueError for a shape; a download raises Exception itself.
        reason = str(error).strip().splitlines()[0]
        raise BadInput(
            f"--network={name} cannot be made for images of {shape[0]} x {shape[1]} ({reason}); "
            "--image_size sets the size of the images of a folder"
        ) from None
    inputs = keras.Input(tuple(shape), dtype=dtype)
    x = keras.layers.Rescaling(255.0 / scale, dtype="float32")(inputs)
    if len(shape) == 2:
        x = keras.layers.Reshape((*shape, 1))(x)
    if x.shape[-1] == 1:
        x = keras.layers.Concatenate()([x, x, x])
    # Each network was trained on pixels of another range; some have the conversion inside, and none here.
    x = body(inspect.getmodule(make).preprocess_input(x))
    if dropout:
        x = keras.layers.Dropout(dropout)(x)
    return keras.Model(inputs, keras.layers.Dense(classes, dtype="float32")(x))
