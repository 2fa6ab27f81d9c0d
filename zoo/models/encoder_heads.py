"""What stands on an encoder: one function for each task, from `transformer.encoder` to a model of the task.

The encoder's layers stay the model's own, under their names, so that a model of one task can start from the weights of
another; `HEAD` names the layers that belong to the tasks.
"""

import keras
import tensorflow as tf

from zoo.models.layers import Dropout
from zoo.models.transformer import Norm

HEAD = ("pooler", "head", "next", "mask_dense", "mask_norm", "mask_bias")
POOLINGS = ("first", "mean")


def classifier(encoder: keras.Model, classes: int, *, pooling: str = "first", dropout: float = 0.1) -> keras.Model:
    """Logits float32 `[batch, classes]` of texts, or of pairs of texts in two segments; `[batch, 1]` of two classes.

    Args:
        encoder: of the tokens.
        classes: number of classes; 1 for a regression, whose one logit is the value.
        pooling: the "first" token's output through a Dense layer with tanh (Devlin et al., 2019), or the "mean" of all.
        dropout: before the last layer.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling is {pooling!r}: expected one of {', '.join(POOLINGS)}")
    pooled = embedder(encoder).output if pooling == "mean" else _pooler(encoder)
    pooled = Dropout(dropout, name="head_dropout")(pooled) if dropout else pooled
    return keras.Model(encoder.input, _dense(1 if classes <= 2 else classes, "head", dtype="float32")(pooled))


def tagger(encoder: keras.Model, tags: int, *, dropout: float = 0.1) -> keras.Model:
    """Logits float32 `[batch, time, tags]` of each token."""
    x = Dropout(dropout, name="head_dropout")(encoder.output) if dropout else encoder.output
    return keras.Model(encoder.input, _dense(tags, "head", dtype="float32")(x))


def embedder(encoder: keras.Model) -> keras.Model:
    """Vectors `[batch, width]` of texts: the mean over their tokens (Reimers and Gurevych, 2019, section 3)."""
    tokens = encoder.inputs[0]
    return keras.Model(encoder.input, MeanPooling(name="mean")(encoder.output, encoder.get_layer("seen")(tokens)))


def pretrainer(encoder: keras.Model, *, next_sentence: bool = False) -> keras.Model:
    """Logits of the words at some places, `[batch, places, vocabulary]`, and of next sentence, `[batch, 2]`.

    The model has one input more, `places` int32 `[batch, places]`: only there is the product with the whole vocabulary
    computed, which costs more than a small encoder (Devlin et al., 2019, section 3.1; the matrix is the embedding's).

    Args:
        encoder: of the tokens.
        next_sentence: whether to have the second output: is the second segment what follows the first?
    """
    places = keras.Input((None,), dtype="int32", name="places")
    width = encoder.output.shape[-1]
    x = GatherPositions(name="at_places")(encoder.output, places)
    x = _dense(width, "mask_dense", activation=_ACTIVATIONS[encoder.get_layer("block0").activation])(x)
    x = Norm(encoder.get_layer("embedding").epsilon, name="mask_norm")(x)
    words = Bias(name="mask_bias")(encoder.get_layer("embedding")(x, reverse=True))
    inputs = [*encoder.inputs, places]
    if not next_sentence:
        return keras.Model(inputs, words)
    return keras.Model(inputs, [words, _dense(2, "next", dtype="float32")(_pooler(encoder))])


def language_model(encoder: keras.Model) -> keras.Model:
    """Logits of the next token at each place, `[batch, time, vocabulary]`, by the embedding's matrix."""
    if not encoder.get_layer("block0").causal:
        raise ValueError("a language model needs an encoder with causal=True: it would see the tokens it is to guess")
    return keras.Model(encoder.input, encoder.get_layer("embedding")(encoder.output, reverse=True))


# Registered by the name that saved models know.
@keras.saving.register_keras_serializable(package="zoo", name="MeanOfSeen")
class MeanPooling(keras.layers.Layer):
    """`[batch, time, width]` and bool `[batch, time]` to the mean over what is true, float32 `[batch, width]`."""

    def call(self, x: tf.Tensor, seen: tf.Tensor) -> tf.Tensor:
        weights = tf.cast(seen, tf.float32)[:, :, None]
        return tf.reduce_sum(tf.cast(x, tf.float32) * weights, axis=1) / tf.reduce_sum(weights, axis=1)

    def compute_output_spec(self, x, seen):
        return keras.KerasTensor((x.shape[0], x.shape[-1]), "float32")


# Registered by the name that saved models know.
@keras.saving.register_keras_serializable(package="zoo", name="AtPlaces")
class GatherPositions(keras.layers.Layer):
    """`[batch, time, width]` at int32 `[batch, places]`: `[batch, places, width]`."""

    def call(self, x: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        return tf.gather(x, places, batch_dims=1)

    def compute_output_spec(self, x, places):
        return keras.KerasTensor((*places.shape, x.shape[-1]), x.dtype)


@keras.saving.register_keras_serializable(package="zoo")
class Bias(keras.layers.Layer):
    """Adds a number of its own to each column."""

    def __init__(self, **kwargs):
        # Logits stay in float32 under any precision policy: the loss needs their full range.
        super().__init__(autocast=False, **kwargs)

    def build(self, inputs_shape):
        self.bias = self.add_weight((inputs_shape[-1],), initializer="zeros", name="bias", autocast=False)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs + tf.cast(tf.convert_to_tensor(self.bias), inputs.dtype)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape


# Registered by the name that saved models know.
@keras.saving.register_keras_serializable(package="zoo", name="First")
class ClsPooling(keras.layers.Layer):
    """The first token's vector: `[batch, time, width]` to `[batch, width]`."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x[:, 0]

    def compute_output_shape(self, inputs_shape):
        return (inputs_shape[0], inputs_shape[-1])


@keras.saving.register_keras_serializable(package="zoo")
def gelu_new(x: tf.Tensor) -> tf.Tensor:
    """The approximation by tanh (Hendrycks and Gimpel, 2016)."""
    return tf.nn.gelu(x, approximate=True)


_ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "gelu_new": gelu_new}


def _pooler(encoder: keras.Model) -> keras.KerasTensor:
    return _dense(encoder.output.shape[-1], "pooler", activation="tanh")(ClsPooling(name="first")(encoder.output))


def _dense(units: int, name: str, **options) -> keras.layers.Dense:
    # 0.02 is BERT's; an initializer of its own for each layer, or all would start alike.
    small = keras.initializers.RandomNormal(stddev=0.02)
    return keras.layers.Dense(units, kernel_initializer=small, name=name, **options)
