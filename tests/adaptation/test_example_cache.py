"""Values of recent examples: those that are remembered are those that would be computed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.adaptation.example_cache import ExampleCache


class Counted:
    def __init__(self):
        self.examples = 0

    def __call__(self, examples):
        self.examples += len(examples)
        return np.array(
            [[float(np.sum(each)), 1.0] if not isinstance(each, str) else [len(each), 2.0] for each in examples]
        )


@given(
    # Few values, so that equal examples follow each other; sizes beyond the memory, and shifts that forget.
    st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=9), st.booleans()), min_size=1, max_size=12),
    st.integers(1, 12),
    st.booleans(),
)
def test_what_is_remembered_is_what_would_be_computed(steps, memory, is_text):
    cache, recent = ExampleCache(Counted()), []
    for batch, shifts in steps:
        recent = batch if shifts else (recent + batch)[-max(memory, len(batch)) :]
        examples = ["a" * each for each in recent] if is_text else np.array(recent)[:, None] * np.ones((1, 4))
        np.testing.assert_array_equal(cache(examples), Counted()(examples))


@pytest.mark.parametrize("size", [1, 7, 20])
def test_only_new_examples_are_computed(size):
    compute, stream = Counted(), np.random.default_rng(0).normal(size=(200, 4))
    cache = ExampleCache(compute)
    for end in range(size, 200 + 1, size):
        cache(stream[max(0, end - 50) : end])
    assert compute.examples == 200 // size * size


def test_missing_values_are_computed_again():
    """A column of a table may lack a value, which equals nothing."""
    cache, examples = ExampleCache(Counted()), np.array([[np.nan, 1.0], [2.0, 3.0]])
    for _ in range(2):
        np.testing.assert_array_equal(cache(examples), Counted()(examples))
