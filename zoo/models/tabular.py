"""Networks for tables of numbers: piecewise linear encodings, a linear path, and an ensemble inside one network."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from zoo.models.layers import BatchNorm, Dropout

# Beyond this many standard deviations a value is squeezed (RealMLP's smooth clipping, see `QuantileEncoding`).
_CLIP = 3.0
# Its square is finite in float32.
_FAR = 1e9
# Most numbers that encodings make of one example; with more columns each gets fewer bins.
_MOST_UNITS = 2048
_MEMBERS = "members"


@keras.saving.register_keras_serializable(package="zoo")
class QuantileEncoding(keras.layers.Layer):
    """Encodes each number as itself, robustly scaled and smoothly clipped, and as its place between quantiles.

    Scaling by the quartiles and squeezing outliers as `z / sqrt(1 + (z / 3)^2)`: Holzmueller et al., "Better by
    default" (RealMLP), 2024, section 3. Piecewise linear encoding, from which a linear layer makes any function of a
    column that is linear between its quantiles: Gorishniy et al., "On embeddings for numerical features in tabular deep
    learning", 2022, section 3.2.

    Args:
        center: median of each column, `[columns]`.
        scale: standard deviation of a normal distribution with the column's quartiles, `[columns]`.
        columns: column of each piece, `[pieces]`.
        lower: where each piece begins, `[pieces]`.
        width: its width, above 0, `[pieces]`.
        mean: mean of its encoding, which is subtracted, `[pieces]`.
    """

    def __init__(
        self,
        center: Sequence[float],
        scale: Sequence[float],
        columns: Sequence[int],
        lower: Sequence[float],
        width: Sequence[float],
        mean: Sequence[float],
        **kwargs,
    ):
        # float32 under any precision policy: a year or a price has more digits than bfloat16.
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.arrays = {"center": center, "scale": scale, "lower": lower, "width": width, "mean": mean}
        self.columns = list(columns)

    @property
    def linear_units(self) -> int:
        """How many of the first outputs a linear model needs: one for each column."""
        return len(self.arrays["center"])

    @property
    def units(self) -> int:
        """Number of outputs."""
        return self.linear_units + len(self.columns)

    def call(self, inputs):
        """From `[batch, columns]` to float32 `[batch, columns + pieces]`."""
        return self.encoded(inputs)

    def encoded(self, inputs):
        """What `call` computes, in Keras' own operations."""
        center, scale, lower, width, mean = (np.asarray(each, np.float32) for each in self.arrays.values())
        z = ops.clip((inputs - center) / scale, -_FAR, _FAR)
        z = z * ops.rsqrt(1.0 + ops.square(z / _CLIP))  # [batch, columns]
        if not self.columns:
            return z
        pieces = ops.take(inputs, np.asarray(self.columns, np.int32), axis=1)  # [batch, pieces]
        return ops.concatenate([z, ops.clip((pieces - lower) / width, 0.0, 1.0) - mean], axis=1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] + len(self.columns))

    def get_config(self):
        arrays = {name: [float(value) for value in each] for name, each in self.arrays.items()}
        return {**super().get_config(), **arrays, "columns": self.columns}


def quantile_encoding(train: np.ndarray, bins: int) -> QuantileEncoding:
    """The encoding of a table's columns.

    Args:
        train: training examples `[examples, columns]`.
        bins: pieces per column between quantiles; a column with few values has one between each two of them, and one
            with two values or less has none. 0: no pieces.

    Raises:
        ValueError: there are no examples.
    """
    if not len(train):
        raise ValueError("no examples to take quantiles of: expected one or more")
    train = np.asarray(train, np.float64)
    low, center, high = np.quantile(train, [0.25, 0.5, 0.75], axis=0)
    spread = (high - low) / 1.349
    # Most values of a sparse column are equal: then its range, as in RealMLP.
    scale = np.where(spread > 0, spread, (train.max(axis=0) - train.min(axis=0)) / 2.0)
    bins = min(bins, _MOST_UNITS // train.shape[1])
    columns, lower, width, mean = [], [], [], []
    for index in range(train.shape[1] if bins > 1 else 0):
        edges = np.unique(np.float32(_edges(train[:, index], bins))).astype(np.float64)
        if len(edges) > 2:
            columns += [index] * (len(edges) - 1)
            lower += edges[:-1].tolist()
            width += np.diff(edges).tolist()
            pieces = (train[:, index, None] - edges[:-1]) / np.diff(edges)
            mean += np.clip(pieces, 0.0, 1.0).mean(axis=0).tolist()
    # A constant column carries no information and must not be divided by 0.
    scale = np.where(scale > 0, scale, 1.0)
    return QuantileEncoding(center.tolist(), scale.tolist(), columns, lower, width, mean, name="encoding")


def ensemble(
    encoding: keras.layers.Layer,
    columns: int,
    classes: int,
    hidden: Sequence[int] = (64, 64),
    *,
    members: int = 8,
    dropout: float = 0.0,
    norm: str = "none",
    linear: tuple[np.ndarray, np.ndarray] | None = None,
) -> keras.Model:
    """Several MLPs side by side on one encoding, each with a linear path from it to the logits; their mean answers.

    At the start the hidden layers add nothing, so the network is the linear model: where a table has no more to give,
    the best weights by validation loss are near the start, and the network is as good as logistic regression.

    Each member is trained on its own loss, from `member_logits`: an ensemble (Lakshminarayanan et al., "Simple and
    scalable predictive uncertainty estimation using deep ensembles", 2017) in one matrix product per layer, as in TabM
    (Gorishniy et al., 2024). The linear path is that of Cheng et al., "Wide & deep learning", 2016.

    Args:
        encoding: the first layer, from `quantile_encoding` or `table_encoding`.
        columns: numbers of an example.
        classes: number of logits.
        hidden: width of each hidden layer of a member.
        members: number of members.
        dropout: dropout rate after each hidden layer.
        norm: one of `zoo.models.mlp.NORMS`, before each activation.
        linear: kernel `[units, classes]` and bias `[classes]` of a linear model of the encoding's first
            units, where the linear path begins; None: at 0.

    Returns:
        A model from `[batch, columns]` to logits float32 `[batch, classes]`.
    """
    inputs = keras.Input((columns,))
    encoded = encoding(inputs)  # [batch, units]
    x, width = encoded, encoding.units
    wide_layer = _members("bi,kio->bko", members, classes, "zeros", dtype="float32", name="wide")
    wide = wide_layer(encoded)
    for number, size in enumerate(hidden):
        equation = "bki,kio->bko" if number else "bi,kio->bko"
        x = _members(equation, members, size, _normal(2.0 / width), use_bias=norm == "none")(x)
        if norm == "layer":
            x = keras.layers.LayerNormalization(epsilon=1e-6)(x)
        elif norm == "batch":
            x = BatchNorm()(x)
        x = keras.layers.Activation("relu")(x)
        if dropout:
            x = Dropout(dropout)(x)
        width = size
    equation = "bki,kio->bko" if hidden else "bi,kio->bko"
    deep = _members(equation, members, classes, "zeros", use_bias=False, dtype="float32", name="deep")(x)
    logits = keras.layers.Add(name=_MEMBERS, dtype="float32")([wide, deep])  # [batch, members, classes]
    if linear is not None:
        kernel = np.zeros(wide_layer.kernel.shape, np.float32)
        kernel[:, : len(linear[0])] = linear[0]
        wide_layer.set_weights([kernel, np.tile(linear[1], (members, 1))])
    return keras.Model(inputs, keras.layers.GlobalAveragePooling1D(name="mean", dtype="float32")(logits))


def member_logits(model: keras.Model) -> keras.Model:
    """The same network up to the members' logits, float32 `[batch, members, classes]`; weights are shared."""
    return keras.Model(model.input, model.get_layer(_MEMBERS).output)


def _members(equation: str, members: int, units: int, initializer, *, use_bias: bool = True, **options):
    bias_axes = "ko" if use_bias else None
    return keras.layers.EinsumDense(
        equation, (members, units), bias_axes=bias_axes, kernel_initializer=initializer, **options
    )


def _normal(variance: float) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=variance**0.5)


def _edges(values: np.ndarray, bins: int) -> np.ndarray:
    different = np.unique(values)
    return different if len(different) <= bins + 1 else np.quantile(values, np.linspace(0.0, 1.0, bins + 1))
