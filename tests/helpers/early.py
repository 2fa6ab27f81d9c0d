"""Small classifiers of texts that know moods by their words, without a training run: only their heads are fitted."""

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression

from zoo.data.text import special_tokens, tokenizer
from zoo.metrics.logits import two_class_logits
from zoo.models import encoder_heads, lstm, transformer
from zoo.models.hugging_face.config import Shape
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.text_classifier import TextClassifier

LONGEST = 24
WORDS = (["awful", "poor", "dull"], ["fine", "great", "lovely"], ["plain", "usual", "normal"])
FILLING = ["the", "film", "was", "seen", "today", "and", "it", "had", "a", "long", "story", "with", "some", "people"]


def texts(count: int, classes: int = 2, seed: int = 0, longest: int = 18) -> tuple[list[str], np.ndarray]:
    """Texts in which words of their own class outnumber others', clearly or barely; and their classes."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, count).astype(np.int32)
    made = []
    for label in labels:
        own, other = draw.integers(1, 5), draw.integers(0, 2)
        words = [*draw.choice(WORDS[label], own), *draw.choice(WORDS[(label + 1) % classes], other)]
        words += list(draw.choice(FILLING, draw.integers(0, longest - 5)))
        made.append(" ".join(draw.permutation(words)))
    return made, labels


def words() -> tokenizer.Tokenizer:
    every = [*FILLING, *(word for some in WORDS for word in some)]
    return tokenizer.train([" ".join(every)] * 5, "word", 60)


def encoder(classes: int = 2, layers: int = 4, norm_first=False, pooling="mean", policy="float32") -> TextClassifier:
    """A fresh encoder with a fitted head: all layers know the words, and the last ones are not the best."""
    keras.utils.set_random_seed(1)
    known = words()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        shape = Shape(known.vocabulary_size, 16, layers, 2, 32, LONGEST)
        model = encoder_heads.classifier(transformer.encoder(shape, norm_first=norm_first), classes, pooling=pooling)
    finally:
        keras.config.set_dtype_policy(before)
    # Weights of 0.02 would leave each block's input as it is.
    for variable in model.trainable_variables:
        if "kernel" in variable.path and "block" in variable.path:
            variable.assign(10 * variable)
    return fitted(TextClassifier(model, names(classes), known, LONGEST, frame=special_tokens.from_tokenizer(known)))


def reader(classes: int = 2, pooling: str = "mean", layers: int = 1, bidirectional=False) -> TextClassifier:
    """A fresh LSTM with a fitted head."""
    keras.utils.set_random_seed(1)
    known = words()
    model = lstm.classifier(
        known.vocabulary_size, classes, width=12, units=16, layers=layers, pooling=pooling, dropout=0.1,
        bidirectional=bidirectional,
    ).model  # fmt: skip
    return fitted(TextClassifier(model, names(classes), known, LONGEST))


def names(classes: int) -> tuple[str, ...]:
    return ("bad", "good", "neutral")[:classes]


def fitted(predictor: TextClassifier) -> TextClassifier:
    some, labels = texts(400, len(predictor.classes), seed=1)
    head = predictor.model.get_layer("head")
    below = keras.Model(predictor.model.inputs, head.input)
    columns = predictor.columns(some)
    inputs = [columns["tokens"], columns.get("segments", np.zeros_like(columns["tokens"]))]
    features = below(inputs[: len(predictor.model.inputs)], training=False).numpy().astype(np.float64)
    found = LogisticRegression(C=100.0, max_iter=2000).fit(features, labels)
    head.kernel.assign(found.coef_.T)
    head.bias.assign(found.intercept_)
    return predictor


def source(predictor: TextClassifier, count: int = 400, seed: int = 2) -> HeldOut:
    some, labels = texts(count, len(predictor.classes), seed)
    return HeldOut(some, labels, two_class_logits(predictor.logits(some)))
