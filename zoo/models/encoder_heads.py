"""Task heads on an encoder: one function per task, from `transformer.encoder` to a model of the task.

The encoder's layers keep their names, so that a model of one task can start from the weights of another; `HEAD` names
the layers of the heads.
"""

import keras
import tensorflow as tf

from zoo.data.text import word_features
from zoo.models.layers import Dropout
from zoo.models.ngram_logits import NgramLogits, with_ngrams
from zoo.models.ngram_mixture import NgramMixture
from zoo.models.transformer import Norm
from zoo.models.word_logits import WordLogits, with_words

HEAD = ("pooler", "head", "next", "mask_dense", "mask_norm", "mask_bias", "ngrams", "word_logits", "mixture")
POOLINGS = ("first", "mean")


def classifier(
    encoder: keras.Model,
    classes: int,
    *,
    pooling: str = "first",
    dropout: float = 0.1,
    ngrams: NgramLogits | None = None,
    several_labels: bool = False,
) -> keras.Model:
    """Classifier of texts, or of pairs in two segments: logits float32 `[batch, classes]`, `[batch, 1]` for two.

    Args:
        encoder: a `transformer.encoder`.
        classes: number of classes; 1 for a regression, whose one logit is the value.
        pooling: the "first" token's output through a Dense layer with tanh (Devlin et al., 2019), or the "mean" of all.
        dropout: dropout rate before the last layer.
        ngrams: a layer whose logits are mixed with the encoder's, see `with_ngrams`; None: none.
        several_labels: whether a text may have several of the classes, each with a logit of its own.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling is {pooling!r}: expected one of {', '.join(POOLINGS)}")
    pooled = embedder(encoder).output if pooling == "mean" else _pooler(encoder)
    pooled = Dropout(dropout, name="head_dropout")(pooled) if dropout else pooled
    logits = _dense(1 if classes <= 2 and not several_labels else classes, "head", dtype="float32")(pooled)
    if ngrams is not None:
        logits = with_ngrams(logits, ngrams(encoder.inputs[0]))
    return keras.Model(encoder.input, logits)


def without_ngrams(classifier: keras.Model) -> keras.Model:
    """The network of a `classifier` with n-gram logits, without these."""
    return keras.Model(classifier.input, classifier.get_layer("head").output)


def tagger(
    encoder: keras.Model, tags: int, *, dropout: float = 0.1, words: WordLogits | None = None, share: float = 1.0
) -> keras.Model:
    """Tagger of tokens: logits float32 `[batch, time, tags]`.

    Args:
        encoder: a `transformer.encoder`.
        tags: number of tags.
        dropout: dropout rate before the last layer.
        words: a layer whose logits are mixed with the encoder's, see `with_words`; the model then has a third input,
            `features` int32 `[batch, time, word_features.COUNT]`, at each word's first token. None: none.
        share: weight of the encoder's logits beside them.
    """
    x = Dropout(dropout, name="head_dropout")(encoder.output) if dropout else encoder.output
    logits = _dense(tags, "head", dtype="float32")(x)
    if words is None:
        return keras.Model(encoder.input, logits)
    features = keras.Input((None, word_features.COUNT), dtype="int32", name="features")
    return keras.Model([*encoder.inputs, features], with_words(logits, words(features), share))


def without_words(tagger: keras.Model) -> keras.Model:
    """The network of a `tagger` with word logits, without these."""
    return keras.Model(tagger.inputs[:-1], tagger.get_layer("head").output)


def embedder(encoder: keras.Model) -> keras.Model:
    """Text embeddings `[batch, width]`: the mean over the tokens (Reimers and Gurevych, 2019, section 3)."""
    tokens = encoder.inputs[0]
    return keras.Model(encoder.input, MeanPooling(name="mean")(encoder.output, encoder.get_layer("seen")(tokens)))


def pretrainer(encoder: keras.Model, *, next_sentence: bool = False) -> keras.Model:
    """Masked-token logits `[batch, positions, vocabulary]` and next-sentence logits `[batch, 2]`.

    The model has a further input `places`, int32 `[batch, positions]`: only at these positions is the product with the
    tied embedding matrix computed, which costs more than a small encoder (Devlin et al., 2019, section 3.1).

    Args:
        encoder: a `transformer.encoder`.
        next_sentence: whether to add the second output: does the second segment follow the first?
    """
    positions = keras.Input((None,), dtype="int32", name="places")
    width = encoder.output.shape[-1]
    x = GatherPositions(name="at_places")(encoder.output, positions)  # [batch, positions, width]
    x = _dense(width, "mask_dense", activation=_ACTIVATIONS[encoder.get_layer("block0").activation])(x)
    x = Norm(encoder.get_layer("embedding").epsilon, name="mask_norm")(x)
    # [batch, positions, vocabulary]
    token_logits = Bias(name="mask_bias")(encoder.get_layer("embedding")(x, reverse=True))
    inputs = [*encoder.inputs, positions]
    if not next_sentence:
        return keras.Model(inputs, token_logits)
    return keras.Model(inputs, [token_logits, _dense(2, "next", dtype="float32")(_pooler(encoder))])


def language_model(encoder: keras.Model) -> keras.Model:
    """Next-token logits at each position, `[batch, time, vocabulary]`, with the tied embedding matrix."""
    if not encoder.get_layer("block0").causal:
        raise ValueError("a language model needs an encoder with causal=True: it would see the tokens to predict")
    return keras.Model(encoder.input, encoder.get_layer("embedding")(encoder.output, reverse=True))


def mixed_language_model(language_model: keras.Model, ngrams: NgramMixture) -> keras.Model:
    """Log-probabilities of a language model mixed with an n-gram model, `[batch, time, vocabulary]`."""
    return keras.Model(language_model.input, ngrams(language_model.output, language_model.input))


# Registered under the name in saved models.
@keras.saving.register_keras_serializable(package="zoo", name="MeanOfSeen")
class MeanPooling(keras.layers.Layer):
    """Masked mean: `[batch, time, width]` and a bool mask `[batch, time]` to float32 `[batch, width]`."""

    def call(self, x: tf.Tensor, seen: tf.Tensor) -> tf.Tensor:
        weights = tf.cast(seen, tf.float32)[:, :, None]  # [batch, time, 1]
        return tf.reduce_sum(tf.cast(x, tf.float32) * weights, axis=1) / tf.reduce_sum(weights, axis=1)

    def compute_output_spec(self, x, seen):
        return keras.KerasTensor((x.shape[0], x.shape[-1]), "float32")


# Registered under the name in saved models.
@keras.saving.register_keras_serializable(package="zoo", name="AtPlaces")
class GatherPositions(keras.layers.Layer):
    """Gathers positions: `[batch, time, width]` at int32 `[batch, positions]` to `[batch, positions, width]`."""

    def call(self, x: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        return tf.gather(x, places, batch_dims=1)  # [batch, positions, width]

    def compute_output_spec(self, x, places):
        return keras.KerasTensor((*places.shape, x.shape[-1]), x.dtype)


@keras.saving.register_keras_serializable(package="zoo")
class Bias(keras.layers.Layer):
    """Adds a learned bias to each column."""

    def __init__(self, **kwargs):
        # Logits stay in float32 under any precision policy: the loss needs their full range.
        super().__init__(autocast=False, **kwargs)

    def build(self, inputs_shape):
        self.bias = self.add_weight((inputs_shape[-1],), initializer="zeros", name="bias", autocast=False)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs + tf.cast(tf.convert_to_tensor(self.bias), inputs.dtype)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape


# Registered under the name in saved models.
@keras.saving.register_keras_serializable(package="zoo", name="First")
class ClsPooling(keras.layers.Layer):
    """The first token's vector: `[batch, time, width]` to `[batch, width]`."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x[:, 0]

    def compute_output_shape(self, inputs_shape):
        return (inputs_shape[0], inputs_shape[-1])


@keras.saving.register_keras_serializable(package="zoo")
def gelu_new(x: tf.Tensor) -> tf.Tensor:
    """GELU, approximated with tanh (Hendrycks and Gimpel, 2016)."""
    return tf.nn.gelu(x, approximate=True)


_ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "gelu_new": gelu_new}


def _pooler(encoder: keras.Model) -> keras.KerasTensor:
    return _dense(encoder.output.shape[-1], "pooler", activation="tanh")(ClsPooling(name="first")(encoder.output))


def _dense(units: int, name: str, **options) -> keras.layers.Dense:
    # 0.02 is BERT's; one initializer per layer, or all layers would start with the same weights.
    small = keras.initializers.RandomNormal(stddev=0.02)
    return keras.layers.Dense(units, kernel_initializer=small, name=name, **options)
