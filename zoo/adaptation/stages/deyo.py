"""DeYO (`--learner=deyo`): entropy minimisation on images that are classified by their shape.

Lee et al., "Entropy is not enough for test-time adaptation: from the perspective of disentangled factors", 2024,
section 4. An image whose patches are shuffled has lost its shape, but not its colours and texture. The probability of
the predicted class must fall by more than a threshold then (the pseudo-label probability difference, PLPD). Images of
low entropy and large difference count more.

The thresholds are the paper's, as shares of the largest entropy. Its learning rate is for a thousand classes; here it
is that of TENT.
"""

import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.adaptation import image_inputs
from zoo.adaptation.stages.learner import Recent
from zoo.errors import BadInput
from zoo.predict.predictors.predictor import Classifier
from zoo.terms import Term


class Deyo(NamedTuple):
    """Weighted entropy of the images that pass both tests.

    Attributes:
        optimizer: one of `zoo.engine.optimizers.NAMES`.
        learning_rate: a constant.
        margin: an image counts if its entropy is below this share of the largest one, log(classes).
        reference: entropy, as such a share, at which an image's entropy adds 1 to its weight.
        difference: an image counts if its PLPD is above this.
        patches: patches along each side.
    """

    optimizer: str = "adam"
    learning_rate: float = 1e-3
    margin: float = 0.5
    reference: float = 0.4
    difference: float = 0.2
    patches: int = 4

    trains_features, source_share = False, 0.0

    def check(self, predictor: Classifier) -> None:
        """Refuses models of other examples.

        Raises:
            BadInput: the model takes no images, or images of fewer pixels than patches.
        """
        if not (image_inputs.may_be_images(predictor) and min(predictor.shape[:2]) >= self.patches):
            sides = f"{self.patches} times {self.patches}"
            raise BadInput(
                f"--learner=deyo shuffles the patches of images: expected a model of images of {sides} pixels or more"
            )

    def columns(self, recent: Recent) -> dict[str, np.ndarray]:
        """`shuffled`: the images with their patches in random order."""
        return {"shuffled": shuffled_patches(recent.examples, self.patches, recent.draw)}

    def term(self, model: keras.Model, batch: dict[str, tf.Tensor]) -> Term:
        """The loss of a batch with the columns `x`, `real` and `shuffled`."""
        logs, shuffled = (
            tf.nn.log_softmax(tf.cast(model(batch[name], training=False), tf.float32)) for name in ("x", "shuffled")
        )
        entropy = -tf.reduce_sum(tf.exp(logs) * logs, axis=-1)
        predicted = tf.argmax(logs, axis=-1)
        lost = tf.gather(tf.exp(logs) - tf.exp(shuffled), predicted, batch_dims=1)  # PLPD, [batch]
        largest = math.log(logs.shape[-1])
        is_chosen = (entropy < self.margin * largest) & (lost > self.difference)
        factor = tf.exp(self.reference * largest - entropy) + tf.exp(lost)
        return Term(tf.stop_gradient(factor) * entropy, tf.cast(is_chosen, tf.float32) * batch["real"])


def shuffled_patches(images: np.ndarray, patches: int, draw: np.random.Generator) -> np.ndarray:
    """Images whose `patches` times `patches` patches are in random order, another one for each image.

    Pixels that are left over at the right and the lower side stay; the paper resizes the image instead.

    Args:
        images: `[examples, height, width, ...]`, each side of at least `patches` pixels.
        patches: patches along each side.
        draw: source of the orders.
    """
    examples, height, width, *rest = images.shape
    rows, columns = height // patches, width // patches
    inner = images[:, : rows * patches, : columns * patches].reshape(examples, patches, rows, patches, columns, *rest)
    grid = np.swapaxes(inner, 2, 3).reshape(examples, patches**2, rows, columns, *rest)
    order = draw.permuted(np.tile(np.arange(patches**2), (examples, 1)), axis=1)
    grid = grid[np.arange(examples)[:, None], order].reshape(examples, patches, patches, rows, columns, *rest)
    shuffled = images.copy()
    shuffled[:, : rows * patches, : columns * patches] = np.swapaxes(grid, 2, 3).reshape(
        examples, rows * patches, columns * patches, *rest
    )
    return shuffled


DEYO = Deyo()
