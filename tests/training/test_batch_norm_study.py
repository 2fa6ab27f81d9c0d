"""The study of batch normalisation: its table, its data, and results that are not computed again."""

import json

import numpy as np
import pytest

from benchmarks import batch_norm
from zoo.data.splits import Splits


def test_the_table_has_intervals_and_leads_of_the_same_seed():
    def outcomes(*validation, seconds=1.0):
        return [{"validation": each, "test": each - 0.1, "seconds": seconds} for each in validation]

    results = {batch_norm.LINEAR: [{"test": 0.5, "seconds": 1.0}] * 2, batch_norm.FIT: outcomes(0.8, 0.9)}
    lines = batch_norm.table(results | {"groups": outcomes(0.85, 0.95)})
    # Student's t of one degree of freedom is 12.71; the seeds differ, the leads do not.
    assert lines[2:] == [
        "| logistic regression |  | 50.00 ± 0.00 |  | -25.00 ± 63.53 |",
        "| Keras' `fit` | 85.00 ± 63.53 | 75.00 ± 63.53 |  |  |",
        "| groups | 90.00 ± 63.53 | 80.00 ± 63.53 | +5.00 ± 0.00 | +5.00 ± 0.00 |",
    ]


def test_a_seed_draws_its_training_images():
    x = np.arange(40, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    part = {"x": x, "y": np.arange(40, dtype=np.int32)}
    data = Splits(part, part, part, tuple("abc"), scale=255.0)
    drawn = [batch_norm.subset(data, seed, 30) for seed in (0, 0, 1)]
    assert [each.train["x"].shape for each in drawn] == [(30, 4, 4, 1)] * 3
    np.testing.assert_allclose(drawn[0].train["x"][:, 0, 0, 0] * 255, drawn[0].train["y"], rtol=1e-5)
    assert drawn[0].train["y"].tolist() == drawn[1].train["y"].tolist() != drawn[2].train["y"].tolist()
    assert len(drawn[0].test["y"]) == 40


def test_a_result_is_not_computed_again(tmp_path):
    (tmp_path / "0.json").write_text(json.dumps({"test": 0.25}))
    assert batch_norm.outcome(tmp_path / "0.json", batch_norm.FIT, None, 0, 1) == {"test": 0.25}


@pytest.mark.parametrize("strides", [1, 2])
def test_a_block_is_the_sum_of_two_ways(strides):
    keras = pytest.importorskip("keras")
    inputs = keras.Input((8, 8, 16))
    outputs = batch_norm._block(inputs, 16, strides)
    assert outputs.shape == (None, 8 // strides, 8 // strides, 16)
    convolutions = [each for each in keras.Model(inputs, outputs).layers if isinstance(each, keras.layers.Conv2D)]
    assert len(convolutions) == strides + 1
