"""Keras' own random draws and batch normalisation, as the engine computes them inside a forward pass.

Keras draws noise from a counter that each device and micro-batch has of its own, and normalises by what is on the
device. Inside a `randomness.scope` the functions below take their place: `keras.random.*` draws by the example's place
in the global batch, and `BatchNormalization` normalises groups of neighbouring rows. So every layer that is made of
them (Dropout, GaussianNoise, attention and recurrent dropout, RandomFlip and its kind, MixUp, a layer of one's own) is
the same on any number of devices. Outside of a scope (`fit`, `predict`, an exported model) Keras' own functions answer.

Written for the minor versions of Keras in setup.py; tests/test_upstream.py fails where a function takes other
arguments.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from zoo import randomness
from zoo.engine import private_apis
from zoo.errors import BadInput
from zoo.models import group_normalization

# Rows per group of a batch normalisation: as many as in Keras' default batch, few enough to split a batch.
_MOST, _LEAST = 32, 16
# Attempts of the rejection sampler below; one is accepted with a probability above 0.95.
_ATTEMPTS = 8
_SHIFT_24 = 2.0**-24


def install() -> None:
    """Routes Keras' functions, once in a process."""
    keras_random = private_apis.random_functions()
    if hasattr(keras_random.uniform, "__wrapped__"):
        return
    for name, ours in _DRAWS.items():
        setattr(keras_random, name, _routed(getattr(keras_random, name), ours))
    generator, layer = keras.random.SeedGenerator, keras.layers.BatchNormalization
    generator.next = _routed(generator.next, lambda scope, self, ordered=True: _seed(scope))
    layer.call = _routed_normalization(layer.call)
    for regularizer in (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2):
        regularizer.__call__ = _routed_regularizer(regularizer.__call__)


def batch_normalization_group(batch_rows: int) -> int:
    """Rows per group for a global batch: its largest divisor from 16 to 32; else the whole batch.

    A function of the batch size alone, so that any number of devices forms the same groups.
    """
    divisors = [rows for rows in range(_MOST, _LEAST - 1, -1) if batch_rows % rows == 0]
    return divisors[0] if divisors else batch_rows


def _routed(original: Callable, ours: Callable) -> Callable:
    @functools.wraps(original)
    def routed(*arguments, **named):
        scope = randomness.current()
        return original(*arguments, **named) if scope is None else ours(scope, *arguments, **named)

    return routed


def _routed_normalization(original: Callable) -> Callable:
    @functools.wraps(original)
    def call(self, inputs, training=None, mask=None):
        scope = randomness.current()
        if scope is None or not training or not self.trainable:
            return original(self, inputs, training=training, mask=mask)
        if scope.uses_moving_statistics:
            return original(self, inputs, training=False, mask=mask)
        return _normalized(scope, self, inputs, mask)

    return call


def _routed_regularizer(original: Callable) -> Callable:
    """Of activities: the mean over the rows that count, as Keras divides the sum over all by their number."""

    @functools.wraps(original)
    def call(self, x):
        scope = randomness.current()
        if scope is None or scope.row_weights is None or not tf.is_tensor(x) or not x.shape.rank:
            return original(self, x)
        weights = _row_weights(scope, x)
        by_row = tf.reshape(weights, [-1] + [1] * (x.shape.rank - 1))
        value = original(self, tf.where(by_row > 0, x, tf.zeros_like(x)))
        share = tf.math.divide_no_nan(float(weights.shape[0]), tf.reduce_sum(weights))
        return value * tf.cast(share, value.dtype)

    return call


def _normalized(scope: randomness.Scope, layer: keras.layers.BatchNormalization, inputs, mask) -> tf.Tensor:
    """Batch normalisation (Ioffe and Szegedy, 2015) over groups of rows ("ghost" batches: Hoffer et al., 2017)."""
    if getattr(layer, "renorm", False):
        raise BadInput(f"{layer.name}: renorm=True follows each device's own batches; expected renorm=False")
    x = tf.cast(inputs, tf.float32)
    axis = layer.axis % x.shape.rank
    order = [each for each in range(x.shape.rank) if each != axis] + [axis]
    x = tf.transpose(x, order)  # [rows, ..., width]
    weights = _row_weights(scope, x)
    if mask is not None:
        by_row = tf.reshape(weights, [-1] + [1] * (mask.shape.rank - 1))
        weights = by_row * tf.cast(mask, tf.float32)
    group = _group(scope, layer, x.shape[0])
    result = group_normalization.normalize(x, weights, group, layer.epsilon)
    for variable, values in ((layer.moving_mean, result.mean), (layer.moving_variance, result.variance)):
        scope.statistics.append(group_normalization.statistic(variable, 1.0 - layer.momentum, values, result.has_rows))
    y = result.values
    if layer.scale:
        y *= tf.cast(layer.gamma, tf.float32)
    if layer.center:
        y += tf.cast(layer.beta, tf.float32)
    back = [order.index(each) for each in range(x.shape.rank)]
    return tf.cast(tf.transpose(y, back), layer.compute_dtype)


def _row_weights(scope: randomness.Scope, x: tf.Tensor) -> tf.Tensor:
    """`[rows]`, 0 for padding. Layers under a reshape may have several rows for each example: `[examples * n]`."""
    if scope.row_weights is None:
        return tf.ones([tf.shape(x)[0]])
    return tf.repeat(scope.row_weights, x.shape[0] // scope.row_weights.shape[0])


def _group(scope: randomness.Scope, layer: keras.layers.Layer, rows: int) -> int:
    """Rows per group of a slice with `rows` rows, `n` for each example."""
    examples = rows if scope.row_weights is None else scope.row_weights.shape[0]
    per_example = rows // examples
    group = scope.group or batch_normalization_group(scope.batch_rows or examples)
    if scope.split and examples % group:
        raise BadInput(
            f"{layer.name}: batch normalisation in groups of {group} rows cannot split the batch in slices of "
            f"{examples}: choose a --batch_size of 16 to 32 rows, or a multiple, for each replica, micro-batch and "
            f"slice, or --batch_norm_group={math.gcd(group, examples)}"
        )
    return min(group, examples) * per_example


def _keys(scope: randomness.Scope, seed: Any, count: int = 1) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Keys of the next draw; a given number is the same key at each step, as in Keras."""
    if isinstance(seed, int):
        return [randomness.seed_key(tf.constant([seed % 2**31, number], tf.int32)) for number in range(count)]
    return [randomness.scope_key(scope) for _ in range(count)]


def _seed(scope: randomness.Scope) -> tf.Tensor:
    """What a seed generator gives inside: a function of the run's seed, the step and the order of the calls."""
    key = tf.stack(randomness.scope_key(scope))
    return tf.cast(tf.bitwise.right_shift(key, tf.constant(1, tf.uint32)), private_apis.seed_dtype())


def _bits(scope: randomness.Scope, shape, key) -> tf.Tensor:
    """Random bits by the rows' places in the global batch, where the draw is one by row; else the same for all."""
    sizes = _sizes(shape)
    if scope.next_draw(sizes[0] if sizes and isinstance(sizes[0], int) else None):
        drawn = randomness.bits(tf.stack([sizes[0], _product(sizes[1:])]), key, scope.first_row)
    else:
        drawn = randomness.bits(tf.stack([1, _product(sizes)]), key)
    return tf.reshape(drawn, tf.stack(sizes) if sizes else [])


def _sizes(shape) -> list:
    """The sizes as integers, where they are known, else as scalars."""
    if tf.is_tensor(shape):
        known = tf.get_static_value(shape)
        return [int(size) for size in known] if known is not None else tf.unstack(tf.cast(shape, tf.int32))
    sizes = []
    for size in shape:
        known = tf.get_static_value(size) if tf.is_tensor(size) else size
        sizes.append(tf.cast(size, tf.int32) if known is None else int(known))
    return sizes


def _product(sizes: list):
    return tf.reduce_prod(tf.stack(sizes)) if sizes else tf.constant(1)


def _unit(scope: randomness.Scope, shape, key) -> tf.Tensor:
    """Uniform float32 in [0, 1) with 24 random bits."""
    bits = tf.bitwise.right_shift(_bits(scope, shape, key), tf.constant(8, tf.uint32))
    return tf.cast(bits, tf.float32) * _SHIFT_24


def _positive(scope: randomness.Scope, shape, key) -> tf.Tensor:
    """Uniform float32 in (0, 1)."""
    return _unit(scope, shape, key) + 0.5 * _SHIFT_24


def _uniform(scope, shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
    low, high = tf.cast(minval, tf.float32), tf.cast(maxval, tf.float32)
    drawn = low + _unit(scope, shape, *_keys(scope, seed)) * (high - low)
    return tf.cast(drawn, dtype or keras.config.floatx())


def _standard_normal(scope, shape, seed) -> tf.Tensor:
    """Box and Muller, 1958."""
    first, second = _keys(scope, seed, 2)
    radius = tf.sqrt(-2.0 * tf.math.log(_positive(scope, shape, first)))
    return radius * tf.cos(2.0 * math.pi * _unit(scope, shape, second))


def _normal(scope, shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    drawn = _standard_normal(scope, shape, seed)
    return tf.cast(tf.cast(mean, tf.float32) + tf.cast(stddev, tf.float32) * drawn, dtype or keras.config.floatx())


def _truncated_normal(scope, shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    """Normal within two standard deviations, by the inverse of the distribution function."""
    low, high = (0.5 * math.erfc(-bound / math.sqrt(2.0)) for bound in (-2.0, 2.0))
    drawn = tf.math.ndtri(low + (high - low) * _positive(scope, shape, *_keys(scope, seed)))
    drawn = tf.clip_by_value(drawn, -2.0, 2.0)
    return tf.cast(tf.cast(mean, tf.float32) + tf.cast(stddev, tf.float32) * drawn, dtype or keras.config.floatx())


def _randint(scope, shape, minval, maxval, dtype="int32", seed=None):
    """Integers from `minval` to `maxval` - 1: the high half of 32 random bits times the range."""
    low = tf.cast(minval, tf.int64)
    bits = tf.cast(_bits(scope, shape, *_keys(scope, seed)), tf.int64)
    offset = tf.bitwise.right_shift(bits * (tf.cast(maxval, tf.int64) - low), tf.constant(32, tf.int64))
    return tf.cast(low + offset, dtype)


def _dropout(scope, inputs, rate, noise_shape=None, seed=None):
    inputs = tf.convert_to_tensor(inputs)
    if rate == 0.0:
        return inputs
    if rate == 1.0:
        return tf.zeros_like(inputs)
    dynamic = tf.shape(inputs)
    shape = [dynamic[axis] if size is None else size for axis, size in enumerate(inputs.shape)]
    if noise_shape is not None:
        shape = [own if size is None else size for own, size in zip(shape, noise_shape, strict=True)]
    bits = _bits(scope, shape, *_keys(scope, seed))
    keep = bits >= tf.constant(round(rate * 2**32), tf.uint32)
    return tf.where(keep, inputs / tf.cast(1.0 - rate, inputs.dtype), tf.zeros_like(inputs))


def _categorical(scope, logits, num_samples, dtype="int64", seed=None):
    """The largest of the logits with Gumbel noise (Gumbel, 1954): `[rows, num_samples]`."""
    logits = tf.cast(logits, tf.float32)
    rows, classes = _sizes(tf.shape(logits)) if None in logits.shape else logits.shape
    noise = -tf.math.log(-tf.math.log(_positive(scope, [rows, num_samples, classes], *_keys(scope, seed))))
    return tf.argmax(logits[:, None, :] + noise, axis=-1, output_type=tf.as_dtype(dtype))


def _shuffle(scope, x, axis=0, seed=None):
    """A permutation along an axis; along the rows it mixes examples, which only a whole batch can."""
    x = tf.convert_to_tensor(x)
    size = x.shape[axis] if x.shape[axis] is not None else tf.shape(x)[axis]
    scope.mixes_rows |= axis % x.shape.rank == 0
    return tf.gather(x, tf.argsort(_unit(scope, [size], *_keys(scope, seed)), stable=True), axis=axis)


def _gamma(scope, shape, alpha, dtype=None, seed=None):
    return tf.cast(_standard_gamma(scope, shape, alpha, seed), dtype or keras.config.floatx())


def _beta(scope, shape, alpha, beta, dtype=None, seed=None):
    first = _standard_gamma(scope, shape, alpha, seed)
    second = _standard_gamma(scope, shape, beta, seed + 1 if isinstance(seed, int) else seed)
    return tf.cast(first / (first + second), dtype or keras.config.floatx())


def _standard_gamma(scope, shape, alpha, seed) -> tf.Tensor:
    """Marsaglia and Tsang, 2000, with a fixed number of attempts; for alpha < 1 their section 6."""
    sizes = _sizes(shape)
    alpha = tf.broadcast_to(tf.cast(alpha, tf.float32), tf.stack(sizes) if sizes else [])
    units = _positive(scope, [*sizes, _ATTEMPTS + 1, 3], *_keys(scope, seed))
    first, second, u = (units[..., :_ATTEMPTS, part] for part in range(3))
    normal = tf.sqrt(-2.0 * tf.math.log(first)) * tf.cos(2.0 * math.pi * second)
    d = (tf.where(alpha < 1.0, alpha + 1.0, alpha) - 1.0 / 3.0)[..., None]
    v = (1.0 + tf.math.rsqrt(9.0 * d) * normal) ** 3
    bound = 0.5 * normal**2 + d - d * v + d * tf.math.log(tf.maximum(v, 1e-30))
    is_accepted = (v > 0.0) & (tf.math.log(u) < bound)
    # What is left after all attempts, one in 10^10, takes the first one.
    attempt = tf.argmax(tf.cast(is_accepted, tf.int32), axis=-1)
    drawn = tf.reduce_sum(tf.where(tf.one_hot(attempt, _ATTEMPTS) > 0, d * tf.abs(v), 0.0), axis=-1)
    return tf.where(alpha < 1.0, drawn * units[..., _ATTEMPTS, 0] ** (1.0 / alpha), drawn)


def _binomial(scope, shape, counts, probabilities, dtype=None, seed=None):
    """The number of `counts` trials that succeed; as many steps of a loop as the largest count."""
    sizes = _sizes(shape)
    full = tf.stack(sizes) if sizes else []
    counts = tf.broadcast_to(tf.cast(counts, tf.float32), full)
    probabilities = tf.broadcast_to(tf.cast(probabilities, tf.float32), full)
    (key,) = _keys(scope, seed)
    start = _bits(scope, shape, key)
    golden = tf.constant(0x9E3779B9, tf.uint32)

    def trial(number, bits, successes):
        bits = randomness.mix(bits + golden)
        unit = tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) * _SHIFT_24
        hit = (unit < probabilities) & (number < counts)
        return number + 1.0, bits, successes + tf.cast(hit, tf.float32)

    most = tf.reduce_max(counts)
    loop = (tf.constant(0.0), start, tf.zeros_like(counts))
    _, _, successes = tf.while_loop(lambda number, *_: number < most, trial, loop)
    return tf.cast(successes, dtype or keras.config.floatx())


_DRAWS = {
    "normal": _normal,
    "uniform": _uniform,
    "categorical": _categorical,
    "randint": _randint,
    "truncated_normal": _truncated_normal,
    "dropout": _dropout,
    "shuffle": _shuffle,
    "gamma": _gamma,
    "binomial": _binomial,
    "beta": _beta,
}
