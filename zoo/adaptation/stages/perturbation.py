"""Test-time input perturbation (`--refine=perturbation`): small changes of an example make its views agree.

Gradient steps on a small change of the image, or of a text's word vectors, minimise an unsupervised loss, as in Mao et
al., "Adversarial attacks are reversible with natural supervision", 2021, with another loss: the Jensen-Shannon
divergence of the predictions of some views. Views are images moved by a pixel, or texts without every n-th word.
Nothing is random, so an example's change depends on the example alone.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.adaptation import image_inputs
from zoo.adaptation.stage import LogitsFn, StreamContext
from zoo.errors import BadInput
from zoo.metrics.logits import two_class_logits
from zoo.models.transformer import Block
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.array_classifier import ArrayClassifier
from zoo.predict.predictors.predictor import Classifier
from zoo.predict.predictors.text_classifier import TextClassifier

# Images whose gradients are computed at a time; limits the memory.
_PART = 500
# Each view of a text leaves out one word in six; six views leave out each word once.
_EVERY = 6
_TINY = 1e-12


class Perturbation:
    """Shows the model each example with a small change.

    Args:
        steps: gradient steps.
        size: largest change: of a pixel, where white is 1 (8 / 255 is the usual bound of adversarial attacks, and not
            visible), and of a word vector, relative to its length.
    """

    name, target = "perturbation", "input"
    # It makes a model confident, right or wrong: ratios of 0.5 to 1 on corrupted training images were as often losses.
    max_score_ratio, restarts_each_batch = 0.5, True

    def __init__(self, steps: int = 3, size: float = 8 / 255):
        self._steps, self._size = steps, size

    def begin(self, predictor: Classifier, source: HeldOut) -> None:
        """Cuts the model where gradients can be taken.

        Raises:
            BadInput: the model takes neither images nor texts.
        """
        self._predictor, self._on = predictor, False
        if predictor.reads_text:
            self._change = self._change_of_texts(predictor)
        elif image_inputs.may_be_images(predictor):
            self._change = self._change_of_images(predictor, source)
        else:
            raise BadInput("--refine=perturbation: expected a model of images or of texts")

    def propose(self, context: StreamContext) -> str:
        """Turns the perturbation on; the guards decide whether it helps."""
        self._on = True
        return ""

    def logits(self, examples: Any, inner: LogitsFn) -> np.ndarray:
        """Logits of the perturbed examples; of the examples themselves while the perturbation is off."""
        if not self._on:
            return inner(examples)
        if self._predictor.reads_text:
            return self._logits_of_texts(examples)
        parts = [examples[first : first + _PART] for first in range(0, len(examples), _PART)]
        changed = [self._change(tf.constant(part)).numpy() for part in parts]
        return inner(np.concatenate([examples[:0], *changed]))

    def state(self) -> bool:
        """Whether the perturbation is on."""
        return self._on

    def load(self, state: bool) -> None:
        """Turns it on or off."""
        self._on = state

    def _change_of_images(self, predictor: ArrayClassifier, source: HeldOut) -> Callable[[tf.Tensor], tf.Tensor]:
        """A function from images `[examples, height, width, ...]` to perturbed images of the same shape and dtype."""
        logits, is_float = _logits_of_pixels(predictor), predictor.dtype.kind == "f"
        # Floats are of any scale: that of the validation split's images.
        low, high = (float(source.examples.min()), float(source.examples.max())) if is_float else (0.0, 255.0)
        bound = (high - low) * self._size

        def change(images: tf.Tensor) -> tf.Tensor:
            original = tf.cast(images, tf.float32)
            # A stream may be brighter than the validation split: its own pixels are always allowed.
            least = tf.maximum(original - bound, tf.minimum(original, low))
            most = tf.minimum(original + bound, tf.maximum(original, high))

            def step(x: tf.Tensor) -> tf.Tensor:
                # Two of three steps reach the bound; the third may turn back.
                x -= 2 * bound / max(self._steps, 2) * tf.sign(_gradient(logits, x, 5))
                return tf.clip_by_value(x, least, most)

            changed = _repeated(step, original, self._steps)
            return tf.cast(changed if is_float else tf.round(changed), images.dtype)

        return tf.function(change, [tf.TensorSpec((None, *predictor.shape), predictor.dtype)], autograph=False)

    def _change_of_texts(self, predictor: TextClassifier) -> Callable[[list[tf.Tensor]], tf.Tensor]:
        """A function from the model's inputs, tokens int32 `[texts, time]` first, to logits `[texts, classes]`."""
        model = predictor.model
        embedding = model.get_layer("embedding")
        tail = keras.Model([model.inputs[0], embedding.output], model.output)
        # An LSTM's embeddings are [time, texts, width], an encoder's [texts, time, width].
        time_first = not any(isinstance(layer, Block) for layer in model.layers)

        def change(inputs: list[tf.Tensor]) -> tf.Tensor:
            vectors = tf.cast(embedding(*inputs), tf.float32)
            bound = self._size * tf.norm(vectors, axis=-1, keepdims=True)  # [texts, time, 1] or [time, texts, 1]
            masks, axis = _word_masks(tf.shape(vectors)[1 - int(time_first)], time_first), int(time_first)
            tokens = tf.tile(inputs[0], [len(masks), 1])  # [views * texts, time]

            def logits(x: tf.Tensor) -> tf.Tensor:
                views = tf.concat([x * mask for mask in masks], axis=axis)  # views * texts along the axis of texts
                return tail([tokens, tf.cast(views, embedding.compute_dtype)], training=False)

            def step(x: tf.Tensor) -> tf.Tensor:
                gradient = _gradient(logits, x, len(masks))
                direction = gradient / (tf.norm(gradient, axis=-1, keepdims=True) + _TINY)
                gap = x - 2 * bound / max(self._steps, 2) * direction - vectors
                return vectors + gap * tf.minimum(1.0, bound / (tf.norm(gap, axis=-1, keepdims=True) + _TINY))

            changed = _repeated(step, vectors, self._steps)
            return tail([inputs[0], tf.cast(changed, embedding.compute_dtype)], training=False)

        return tf.function(change, autograph=False, reduce_retracing=True)

    def _logits_of_texts(self, texts: Any) -> np.ndarray:
        logits = np.zeros((len(texts), self._predictor.model.output_shape[-1]), np.float32)
        for chosen, inputs in self._predictor.fed(texts):
            logits[chosen] = self._change(list(map(tf.constant, inputs))).numpy()[: len(chosen)]
        return two_class_logits(logits)


def _logits_of_pixels(predictor: ArrayClassifier) -> Callable[[tf.Tensor], tf.Tensor]:
    """A differentiable function from pixels float32 `[examples, height, width, ...]` to the logits of their views.

    Raises:
        BadInput: whole numbers go into a layer that does not make floats of them, and so have no gradient.
    """
    model = predictor.model
    if predictor.dtype.kind == "f":
        return lambda x: model(tf.cast(tf.concat(_shifted_images(x), axis=0), predictor.dtype), training=False)
    first = model.layers[1]
    if not first.output.dtype.startswith("float"):
        raise BadInput("--refine=perturbation: the model does not scale its integer inputs; expected one that does")
    tail = keras.Model(first.output, model.output)
    # [views * examples, height, width, ...] to [views * examples, classes].
    return lambda x: tail(first(tf.concat(_shifted_images(x), axis=0)), training=False)


def _repeated(step: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, times: int) -> tf.Tensor:
    """A loop in the graph, which traces the step once."""
    return tf.while_loop(lambda x: True, lambda x: (step(x),), (x,), maximum_iterations=times)[0] if times else x


def _gradient(logits: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, views: int) -> tf.Tensor:
    """Gradient of the Jensen-Shannon divergence of the views, summed over examples: each has its own."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        logs = tf.nn.log_softmax(two_class_logits(tf.cast(logits(x), tf.float32)))  # [views * examples, classes]
        logs = tf.reshape(logs, [views, -1, logs.shape[-1]])  # [views, examples, classes]
        mean = tf.reduce_logsumexp(logs, axis=0) - math.log(views)  # [examples, classes]
        divergence = tf.reduce_sum(tf.reduce_mean(tf.exp(logs) * (logs - mean), axis=0))
    return tape.gradient(divergence, x)


def _shifted_images(x: tf.Tensor) -> list[tf.Tensor]:
    """Images `[examples, height, width, ...]` as they are and moved by a pixel to each side; the border is repeated."""
    rest = [[0, 0]] * (x.shape.rank - 3)
    wide = tf.pad(x, [[0, 0], [1, 1], [1, 1], *rest], mode="SYMMETRIC")  # [examples, height + 2, width + 2, ...]
    height, width = x.shape[1:3]
    corners = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    return [wide[:, down : down + height, right : right + width] for down, right in corners]


def _word_masks(length: tf.Tensor, time_first: bool) -> list[tf.Tensor]:
    """Factors of word vectors for each view, 0 where a word is left out and else 1; the first view is the whole text.

    Their shape is `[1, time, 1]`, or `[time, 1, 1]` with `time_first`.
    """
    remainder = tf.range(length) % _EVERY
    masks = [tf.ones([length]), *(tf.cast(remainder != number, tf.float32) for number in range(_EVERY))]
    return [mask[:, None, None] if time_first else mask[None, :, None] for mask in masks]
