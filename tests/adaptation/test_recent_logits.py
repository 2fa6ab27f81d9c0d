"""Logits of the recent examples: what is remembered is what would be computed, and only a new batch is computed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zoo.adaptation.recent_logits import RecentLogits


class Counted:
    def __init__(self, factor):
        self.factor, self.examples = factor, 0

    def __call__(self, examples):
        self.examples += len(examples)
        return self.factor * np.stack([examples, -examples], axis=1)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.booleans()), min_size=1, max_size=12),
    st.integers(1, 12),
)
def test_remembered_logits_are_the_computed_ones(steps, memory):
    kept, recent, forward = RecentLogits(), np.zeros(0), Counted(1.0)
    for number, (size, changes, shifts) in enumerate(steps):
        batch = np.random.default_rng(number).normal(size=size)
        recent = np.concatenate([recent, batch])[-max(memory, size) :]
        if shifts:
            # An abrupt shift: older examples are forgotten.
            recent = recent[-size:]
        if changes:
            forward = Counted(forward.factor + 1)
            kept.forget()
        kept.update(recent, batch, forward)
        through = kept.through(forward)
        for examples in (recent, batch, recent.copy()):
            np.testing.assert_array_equal(through(examples), Counted(forward.factor)(examples))


def test_single_examples_are_computed_once():
    kept, forward, recent = RecentLogits(), Counted(1.0), np.zeros(0)
    for number in range(100):
        batch = np.array([float(number)])
        recent = np.concatenate([recent, batch])[-50:]
        kept.update(recent, batch, forward)
        kept.through(forward)(recent)
        kept.through(forward)(batch)
    assert forward.examples == 100
