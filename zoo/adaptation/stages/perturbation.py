"""A stage of `zoo.adaptation.refiner` on the input: each example is changed a little until its views agree.

Gradient steps on a small change of the image, or of a text's word vectors, under a loss that needs no label, as in Mao
et al., "Adversarial attacks are reversible with natural supervision" (2021), with another loss than theirs: how far
the answers to some views are from their mean (the Jensen-Shannon divergence). Views are images moved by a pixel, or
texts of which every so many-th word is left out; nothing is drawn, so that an example's change depends on it alone.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.adaptation.refiner import Forward, StreamContext
from zoo.errors import BadInput
from zoo.metrics.logits import two_class_logits
from zoo.models.transformer import Block
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.array_classifier import ArrayClassifier
from zoo.predict.predictors.predictor import Classifier
from zoo.predict.predictors.text_classifier import TextClassifier

# Images whose gradients are computed at a time; it bounds the memory.
_PART = 500
# Words are left out one in so many: as many views as that.
_EVERY = 6
_TINY = 1e-12


class Perturbation:
    """Shows the model each example as it is, changed a little.

    Args:
        steps: of the gradient.
        size: largest change: of a pixel, white being 1 (8 / 255 is the usual bound on attacks, and not seen), and of a
            word's vector, by its length.
    """

    name, target = "perturbation", "input"
    # It makes a model sure, right or wrong: on damaged training images scores of 0.5 to 1 were as often losses.
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
            self._change = self._of_vectors(predictor)
        elif predictor.takes_images:
            self._change = self._of_pixels(predictor)
        else:
            raise BadInput("--refine=perturbation: expected a model of images or of texts")

    def propose(self, seen: StreamContext) -> str:
        """Changes the examples; whether that is any good, the guards say."""
        self._on = True
        return ""

    def logits(self, examples: Any, inner: Forward) -> np.ndarray:
        """Those of the examples as they were changed, or as they are."""
        if not self._on:
            return inner(examples)
        if self._predictor.reads_text:
            return self._of_texts(examples)
        parts = [examples[first : first + _PART] for first in range(0, len(examples), _PART)]
        changed = [self._change(tf.constant(part)).numpy() for part in parts]
        return inner(np.concatenate([examples[:0], *changed]))

    def state(self) -> bool:
        """Whether examples are changed."""
        return self._on

    def load(self, state: bool) -> None:
        """Sets it."""
        self._on = state

    def _of_pixels(self, predictor: ArrayClassifier) -> Callable[[tf.Tensor], tf.Tensor]:
        """From uint8 `[examples, height, width, ...]` to the same, changed."""
        first = predictor.model.layers[1]
        if not first.output.dtype.startswith("float"):
            raise BadInput("--refine=perturbation: the model takes whole numbers as they are; expected one that scales")
        tail = keras.Model(first.output, predictor.model.output)

        def logits(x: tf.Tensor) -> tf.Tensor:
            return tail(first(tf.concat(_moved(x), axis=0)), training=False)

        def change(images: tf.Tensor) -> tf.Tensor:
            whole, far = tf.cast(images, tf.float32), 255 * self._size

            def step(x: tf.Tensor) -> tf.Tensor:
                # Two of three steps reach the bound; the third may turn.
                x -= 2 * far / max(self._steps, 2) * tf.sign(_slope(logits, x, 5))
                return tf.clip_by_value(tf.clip_by_value(x, whole - far, whole + far), 0.0, 255.0)

            return tf.cast(tf.round(_repeated(step, whole, self._steps)), images.dtype)

        return tf.function(change, [tf.TensorSpec((None, *predictor.shape), tf.uint8)], autograph=False)

    def _of_vectors(self, predictor: TextClassifier) -> Callable[[tf.Tensor], tf.Tensor]:
        """From tokens int32 `[texts, time]` and what else the model takes to logits `[texts, classes]`."""
        model = predictor.model
        embedding = model.get_layer("embedding")
        tail = keras.Model([model.inputs[0], embedding.output], model.output)
        # An LSTM's vectors begin with the time, an encoder's with the text.
        time_first = not any(isinstance(layer, Block) for layer in model.layers)

        def change(inputs: list[tf.Tensor]) -> tf.Tensor:
            vectors = tf.cast(embedding(*inputs), tf.float32)
            far = self._size * tf.norm(vectors, axis=-1, keepdims=True)
            masks, axis = _left_out(tf.shape(inputs[0])[1], time_first), int(time_first)
            tokens = tf.tile(inputs[0], [len(masks), 1])

            def logits(x: tf.Tensor) -> tf.Tensor:
                seen = tf.concat([x * mask for mask in masks], axis=axis)
                return tail([tokens, tf.cast(seen, embedding.compute_dtype)], training=False)

            def step(x: tf.Tensor) -> tf.Tensor:
                slope = _slope(logits, x, len(masks))
                way = slope / (tf.norm(slope, axis=-1, keepdims=True) + _TINY)
                gap = x - 2 * far / max(self._steps, 2) * way - vectors
                return vectors + gap * tf.minimum(1.0, far / (tf.norm(gap, axis=-1, keepdims=True) + _TINY))

            found = _repeated(step, vectors, self._steps)
            return tail([inputs[0], tf.cast(found, embedding.compute_dtype)], training=False)

        return tf.function(change, autograph=False, reduce_retracing=True)

    def _of_texts(self, texts: Any) -> np.ndarray:
        found = np.zeros((len(texts), self._predictor.model.output_shape[-1]), np.float32)
        for chosen, inputs in self._predictor.fed(texts):
            found[chosen] = self._change(list(map(tf.constant, inputs))).numpy()[: len(chosen)]
        return two_class_logits(found)


def _repeated(step: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, times: int) -> tf.Tensor:
    """A loop of the graph: the step is traced once."""
    return tf.while_loop(lambda x: True, lambda x: (step(x),), (x,), maximum_iterations=times)[0] if times else x


def _slope(logits: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, views: int) -> tf.Tensor:
    """The gradient of the divergence of the views' answers, summed over the examples: each has its own."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        logs = tf.nn.log_softmax(two_class_logits(tf.cast(logits(x), tf.float32)))
        logs = tf.reshape(logs, [views, -1, logs.shape[-1]])
        mean = tf.reduce_logsumexp(logs, axis=0) - math.log(views)
        divergence = tf.reduce_sum(tf.reduce_mean(tf.exp(logs) * (logs - mean), axis=0))
    return tape.gradient(divergence, x)


def _moved(x: tf.Tensor) -> list[tf.Tensor]:
    """Images `[examples, height, width, ...]` as they are, and moved by a pixel to each side; the border goes on."""
    rest = [[0, 0]] * (x.shape.rank - 3)
    wide = tf.pad(x, [[0, 0], [1, 1], [1, 1], *rest], mode="SYMMETRIC")
    height, width = x.shape[1:3]
    places = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    return [wide[:, down : down + height, right : right + width] for down, right in places]


def _left_out(length: tf.Tensor, time_first: bool) -> list[tf.Tensor]:
    """Of each view 0 where a word is left out, else 1, to be multiplied with vectors; first comes the whole text."""
    place = tf.range(length) % _EVERY
    masks = [tf.ones([length]), *(tf.cast(place != number, tf.float32) for number in range(_EVERY))]
    return [mask[:, None, None] if time_first else mask[None, :, None] for mask in masks]
