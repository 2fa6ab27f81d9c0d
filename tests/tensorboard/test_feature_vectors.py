"""Points of the embedding projector: vectors before the last layer, also of a network beside a linear model."""

import numpy as np
import pytest

from tests.helpers import finished
from zoo.data.text import word_alignment
from zoo.predict.predictors import loading
from zoo.tensorboard import feature_vectors

NAMES = ["O", "B-x", "I-x"]


@pytest.mark.parametrize("word_features", [False, True])
def test_points_of_tags(tmp_path, word_features):
    """A vector is the encoder's own output, and the predicted tag that of the whole model."""
    workdir = finished.encoder(tmp_path / "run", "tagging", word_features=word_features)
    model = loading.read_model(workdir / "model.keras")
    feed = finished.feed(model)
    inputs = lambda batch: [batch[each.name] for each in model.inputs]  # noqa: E731
    labels = np.where(feed["tokens"] > 0, 1, word_alignment.IGNORED).astype(np.int32)
    columns, words = feed | {"tags": labels}, lambda ids: ["w"] * len(ids)
    points = feature_vectors.of_tags(model, columns, NAMES, word_alignment.IGNORED, inputs, words)(100)
    logits = np.asarray(model(inputs(feed)))[labels > 0]
    assert points.labels["predicted"] == [NAMES[best] for best in logits.argmax(axis=1)]
    width = model.get_layer("head").input.shape[-1]
    assert points.vectors.shape == (len(logits), width) and set(points.labels["tag"]) == {"B-x"}
