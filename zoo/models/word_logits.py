"""Word logits: a linear tagger of the features of words, beside an encoder.

It is the "wide" half of a wide and deep model (Cheng et al., 2016). On a few thousand sentences a linear tagger is hard
to beat by an encoder from scratch, which learns here what the linear one lacks. Its weights come from
`zoo.training.word_fit`; the gradient does not reach them.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from zoo.models import logits_mixture


@keras.saving.register_keras_serializable(package="zoo")
class WordLogits(keras.layers.Layer):
    """Sum of the weights of features: int32 `[batch, time, features]` to float32 `[batch, time, tags]`.

    Args:
        tags: number of tags.
        buckets: number of hash buckets of the features; bucket 0 is for what is no word.

    Attributes:
        table: `[buckets, tags]`, the weights of each feature; 0 in bucket 0 and where no training word had a feature.
        bias: `[tags]`.
    """

    def __init__(self, tags: int, buckets: int, **kwargs):
        # float32 under any precision policy: a tag may be decided by small differences.
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.tags, self.buckets = int(tags), int(buckets)

    def build(self, input_shape):
        self.table = self.add_weight((self.buckets, self.tags), initializer="zeros", trainable=False, name="table")
        self.bias = self.add_weight((self.tags,), initializer="zeros", trainable=False, name="bias")

    def call(self, features: Any) -> Any:
        table = tf.convert_to_tensor(self.table)
        return without_bias(features, lambda ids: tf.gather(table, ids)) + self.bias

    def compute_output_shape(self, input_shape):
        return (*input_shape[:2], self.tags)

    def compute_output_spec(self, features):
        return keras.KerasTensor(self.compute_output_shape(features.shape), "float32")

    def get_config(self):
        return {**super().get_config(), "tags": self.tags, "buckets": self.buckets}


def with_words(logits: Any, word_logits: Any, share: float) -> Any:
    """The sum of an encoder's weighted logits and those of words, Keras tensors float32 `[batch, time, tags]`.

    Args:
        logits: those of the encoder, which has learned with the weight 1 beside held-out word logits.
        word_logits: output of a `WordLogits`.
        share: weight of the encoder's; below 1 where it overrates what it has learned.
    """
    return logits_mixture.LogitsMixture(share, is_mean=False, name=logits_mixture.LAYER)(logits, word_logits)


def without_bias(features: Any, lookup: Callable[[Any], Any]) -> Any:
    """The layer's output without its bias, in operations that every runtime can read.

    Args:
        features: int32 `[batch, time, features]`.
        lookup: from features to their rows of the table, `[batch, time, features, tags]`.
    """
    return ops.sum(lookup(features), axis=2)
