"""The linear half of the default model alone: its n-gram layer, without a network. Seconds instead of minutes."""

import time
from pathlib import Path

import numpy as np

from benchmarks.texts import data
from experiments import lstm_sentiment
from zoo.data.datasets import text_classification
from zoo.data.text import encoding
from zoo.metrics import linear_baselines
from zoo.metrics.logits import two_class_logits
from zoo.training import ngram_fit

# Texts in a call of the layer.
_BATCH = 64


def result(files: tuple[Path, Path, Path], seed: int) -> dict[str, float]:
    """Accuracies and lead by the names of a run's result.json, and the seconds of the fit.

    Args:
        files: examples for training, validation and test, as the experiment reads them.
        seed: becomes the seed in the config; the fit is the same for each.
    """
    paths = dict(zip(("train_file", "eval_file", "test_file"), map(str, files)))
    config = lstm_sentiment.LstmConfig(**paths, seed=seed).with_recipe()
    dataset = text_classification.load("", **paths)
    train, test, classes = dataset.train, dataset.test, len(dataset.classes)
    words = encoding.trained(train.texts, config.tokenizer, config.vocabulary, None)
    tokens = {
        name: encoding.padded(encoding.encoded(part.texts, words, None), config.ngram_tokens, config.cut)["tokens"]
        for name, part in (("train", train), ("test", test))
    }
    start = time.perf_counter()
    order, spellings = ngram_fit.order_of(train.texts), ngram_fit.spellings_of(words, train.texts)
    weights = ngram_fit.fit(tokens["train"], train.labels, config.vocabulary, classes, order, (), spellings)
    seconds = time.perf_counter() - start
    layer = weights.layer(config.vocabulary, order)
    batches = (tokens["test"][first : first + _BATCH] for first in range(0, len(test.labels), _BATCH))
    logits = two_class_logits(np.concatenate([layer(batch).numpy() for batch in batches]))
    is_right = logits.argmax(axis=1) == test.labels
    linear_is_right = linear_baselines.tfidf_predictions(dataset) == test.labels
    lead = linear_baselines.accuracy_lead(is_right, linear_is_right)
    return {
        "test/accuracy": float(is_right.mean()),
        "test/baseline_accuracy": float(linear_is_right.mean()),
        **dict(zip(data.LEAD, lead)),
        "seconds": seconds,
    }
