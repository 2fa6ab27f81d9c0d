"""Multi-layer perceptron (MLP), with scaling or standardization of its inputs."""

from collections.abc import Sequence

import keras
import numpy as np

from zoo.models.layers import BatchNorm, Dropout

NORMS = ("none", "layer", "batch")


def mlp(
    shape: Sequence[int],
    classes: int,
    hidden: Sequence[int] = (64, 64),
    *,
    dropout: float = 0.0,
    norm: str = "none",
    dtype: str = "float32",
    preprocessing: keras.layers.Layer | None = None,
) -> keras.Model:
    """A classifier of fixed-size input: preprocessing, then Dense -> norm -> relu -> dropout for each hidden layer.

    784-64-64-10 has 55,050 parameters.

    Args:
        shape: shape of one example, of any rank.
        classes: number of logits.
        hidden: width of each hidden layer.
        dropout: dropout rate after each hidden layer.
        norm: one of `NORMS`, before each activation (Ba et al., 2016; Ioffe and Szegedy, 2015).
        dtype: dtype of the input.
        preprocessing: first layer, from `scaling` or `standardizing`, so that the saved model takes raw inputs.

    Returns:
        A model from `[batch, *shape]` to logits float32 `[batch, classes]`.
    """
    inputs = keras.Input(tuple(shape), dtype=dtype)
    x = inputs if preprocessing is None else preprocessing(inputs)
    x = keras.layers.Flatten()(x) if len(shape) > 1 else x
    for width in hidden:
        # The shift of the normalisation replaces the bias.
        x = keras.layers.Dense(width, use_bias=norm == "none", kernel_initializer="he_normal")(x)
        if norm == "layer":
            x = keras.layers.LayerNormalization(epsilon=1e-6)(x)
        elif norm == "batch":
            x = BatchNorm()(x)
        x = keras.layers.Activation("relu")(x)
        if dropout:
            x = Dropout(dropout)(x)
    # float32 under any precision policy: the loss needs the logits' full range.
    return keras.Model(inputs, keras.layers.Dense(classes, dtype="float32")(x))


def scaling(largest: float) -> keras.layers.Layer:
    """Scales intensities from [0, `largest`] to [0, 1] inside the model, so that batches hold raw bytes."""
    return keras.layers.Rescaling(1.0 / largest, dtype="float32")


def standardizing(train: np.ndarray) -> keras.layers.Layer:
    """Standardizes each feature to mean 0 and variance 1 over the training examples `[examples, ...]`.

    Raises:
        ValueError: there are no examples.
    """
    if not len(train):
        raise ValueError("no examples to take the mean and the variance of: expected one or more")
    # In blocks: the examples may be on disk and larger than memory.
    blocks = [train[start : start + 8192] for start in range(0, len(train), 8192)]
    mean = sum(np.sum(block, axis=0, dtype=np.float64) for block in blocks) / len(train)
    variance = sum(np.sum(np.square(block - mean), axis=0) for block in blocks) / len(train)
    # A constant feature carries no information and must not be divided by 0.
    variance = np.where(variance > 0, variance, 1.0)
    axes = tuple(range(1, train.ndim))
    # float32 under any precision policy: a year or a price has more digits than bfloat16.
    return keras.layers.Normalization(
        axis=axes, mean=mean.astype(np.float32), variance=variance.astype(np.float32), dtype="float32"
    )
