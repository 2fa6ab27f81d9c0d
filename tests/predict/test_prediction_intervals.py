"""Split conformal intervals: the definition, and the coverage that it promises."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import BadInput
from zoo.predict.calibration.prediction_intervals import half_width


@given(st.lists(st.floats(-1e6, 1e6), min_size=20, max_size=60), st.floats(0.05, 0.9))
def test_the_definition(errors, coverage):
    """The smallest width that ceil((n + 1) coverage) of the errors do not exceed."""
    width = half_width(np.array(errors), coverage)
    sizes, needed = np.abs(errors), math.ceil(round((len(errors) + 1) * coverage, 9))
    assert np.sum(sizes <= width) >= needed and np.sum(sizes < width) < needed


@pytest.mark.parametrize(("examples", "coverage"), [(9, 0.9), (40, 0.8), (99, 0.5)])
def test_new_values_are_covered(examples, coverage):
    """Over many validation splits: ceil((n + 1) coverage) / (n + 1), whatever the distribution."""
    draw = np.random.default_rng(0)
    expected = math.ceil(round((examples + 1) * coverage, 9)) / (examples + 1)
    for sample in (draw.standard_normal, draw.standard_exponential):
        covered = [np.abs(sample(100)) <= half_width(sample(examples), coverage) for _ in range(2000)]
        assert abs(np.mean(covered) - expected) < 0.01


def test_too_few_examples_and_no_probability():
    with pytest.raises(BadInput, match="needs 9 validation examples or more, and the run has 8"):
        half_width(np.ones(8), 0.9)
    for coverage in (0.0, 1.0, 90.0):
        with pytest.raises(BadInput, match="expected a probability between 0 and 1"):
            half_width(np.ones(8), coverage)
