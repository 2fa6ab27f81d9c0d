"""A mixture of a network's logits and those of a linear model, with a weight that is chosen after training."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

LAYER = "mixture"


class Shares(NamedTuple):
    """Weights of the two parts of a model's logits.

    Attributes:
        network: weight of the network's logits.
        linear: weight of the linear model's logits.
    """

    network: float
    linear: float


@keras.saving.register_keras_serializable(package="zoo")
class LogitsMixture(keras.layers.Layer):
    """Weighted sum of a network's logits and a linear model's, float32 `[..., outputs]`.

    Args:
        share: first value of the network's weight.
        is_mean: whether the linear model's weight is 1 - share; else it is 1.

    Attributes:
        share: `[1]`, the network's weight; the gradient does not reach it, see `zoo.training.network_share`.
    """

    def __init__(self, share: float, is_mean: bool = True, **kwargs):
        # float32 under any precision policy: a class may be decided by small differences.
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.first_share, self.is_mean = float(share), bool(is_mean)

    def build(self, *shapes):
        first = keras.initializers.Constant(self.first_share)
        self.share = self.add_weight((1,), initializer=first, trainable=False, name="share")

    def call(self, network: Any, linear: Any) -> Any:
        share = tf.convert_to_tensor(self.share)
        return share * network + (1.0 - share if self.is_mean else 1.0) * linear

    def compute_output_spec(self, network, linear):
        return keras.KerasTensor(network.shape, "float32")

    def get_config(self):
        return {**super().get_config(), "share": self.first_share, "is_mean": self.is_mean}

    def set_share(self, share: float) -> None:
        """Sets the network's weight."""
        self.share.assign([share])

    def shares(self) -> Shares:
        """The present weights."""
        share = float(self.share.numpy()[0])
        return Shares(share, 1.0 - share if self.is_mean else 1.0)


def shares(model: keras.Model) -> Shares:
    """The weights of the two parts in a model's logits; 1 and 0 for a network without a linear model.

    Earlier versions wrote the weights into layers of Keras.
    """
    for layer in model.layers:
        if isinstance(layer, LogitsMixture):
            return layer.shares()
    constants = {
        layer.name: float(layer.scale) for layer in model.layers if layer.name in ("network_share", "ngram_share")
    }
    if not constants:
        return Shares(1.0, 0.0)
    return Shares(constants["network_share"], constants.get("ngram_share", 1.0))
