"""Learning rates, against formulas written here and against Keras' own schedules."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.config import SCHEDULES
from zoo.engine import schedules
from zoo.errors import BadInput

STEPS = np.arange(0, 130)


def rates(name, **options):
    schedule = schedules.make(name, 2.0, **{"decay_steps": 100} | options)
    return np.array([float(schedule(step)) for step in STEPS])


REFERENCES = {
    "constant": lambda s: 2.0 + 0 * s,
    "linear": lambda s: 2.0 * (1 - np.minimum(s, 100) / 100),
    "cosine": lambda s: 1.0 + np.cos(np.pi * np.minimum(s, 100) / 100),
    "polynomial": lambda s: 2.0 * (1 - np.minimum(s, 100) / 100) ** 2,
    "step": lambda s: 2.0 * 0.1 ** np.floor(s / 34),
    "exponential": lambda s: 2.0 * 0.1 ** (s / 34),
    "inverse_sqrt": lambda s: 2.0 / np.sqrt(1 + s),
    # Four cosines in 100 steps, each twice as long as the one before.
    "cosine_restarts": lambda s: np.select(
        [s < 100 * end / 15 for end in (1, 3, 7)] + [s < 100],
        [1 + np.cos(np.pi * (s / 100 * 15 - start) / length) for start, length in ((0, 1), (1, 2), (3, 4), (7, 8))],
        0.0,
    ),
    # PyTorch's OneCycleLR: from 1/25 in 30 steps to the peak, then down to 1/25/10,000.
    "one_cycle": lambda s: np.where(
        s < 30,
        0.08 + (2 - 0.08) * (1 - np.cos(np.pi * s / 30)) / 2,
        8e-6 + (2 - 8e-6) * (1 + np.cos(np.pi * np.clip((s - 30) / 70, 0, 1))) / 2,
    ),
    "warmup_stable_decay": lambda s: 2.0 * (1 - np.sqrt(np.clip((s - 80) / 20, 0, 1))),
    # A tenth of the steps up, then down to 1/32.
    "slanted_triangular": lambda s: np.where(s < 10, (s + 1) / 5, (2 - 62 / 32 * np.clip((s - 10) / 90, 0, 1))),
}


@pytest.mark.parametrize("name", schedules.NAMES)
def test_formula(name):
    np.testing.assert_allclose(rates(name), REFERENCES[name](STEPS), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("cosine", keras.optimizers.schedules.CosineDecay(2.0, 100, alpha=0.1)),
        ("polynomial", keras.optimizers.schedules.PolynomialDecay(2.0, 100, 0.2, power=2.0)),
        ("linear", keras.optimizers.schedules.PolynomialDecay(2.0, 100, 0.2)),
    ],
)
def test_as_keras(name, theirs):
    expected = [float(theirs(step)) for step in STEPS]
    np.testing.assert_allclose(rates(name, final_fraction=0.1), expected, rtol=1e-5)


def test_restarts_as_keras():
    theirs = keras.optimizers.schedules.CosineDecayRestarts(2.0, 15, t_mul=2.0, alpha=0.1)
    found = rates("cosine_restarts", decay_steps=15 * 7, cycles=3, final_fraction=0.1)
    # At a restart the two may be on different sides of the edge, by the rounding of a sum.
    inside = [step for step in range(105) if step not in (15, 45)]
    np.testing.assert_allclose(found[inside], [float(theirs(step)) for step in inside], rtol=1e-4)


def test_one_cycle_rises_for_the_steps_of_the_warm_up():
    found = rates("one_cycle", warmup_steps=50)
    assert found.argmax() == 50 and found[50] == pytest.approx(2.0) and found[0] == pytest.approx(0.08)
    assert (np.diff(found[:51]) > 0).all() and (np.diff(found[50:101]) < 0).all()


def test_no_cooldown_is_constant():
    np.testing.assert_allclose(rates("warmup_stable_decay", cooldown_fraction=0.0), 2.0)
    np.testing.assert_allclose(
        rates("warmup_stable_decay", cooldown_fraction=1.0)[:101], 2 * (1 - np.sqrt(STEPS[:101] / 100)), atol=1e-5
    )


@pytest.mark.parametrize("name", [name for name in schedules.NAMES if name != "one_cycle"])
def test_warmup_rises_to_the_peak(name):
    found = rates(name, warmup_steps=10)
    np.testing.assert_allclose(found[:10], 2.0 * np.arange(1, 11) / 10, rtol=1e-6)
    assert found.max() <= 2.0 + 1e-6
    rises = np.flatnonzero(np.diff(found[10:]) > 1e-7)
    assert len(rises) == (3 if name == "cosine_restarts" else 0)


@given(
    st.sampled_from(schedules.NAMES),
    st.integers(1, 10_000),
    st.floats(0, 1),
    st.integers(0, 20_000),
    st.floats(1e-6, 10),
)
@settings(max_examples=80, deadline=None)
def test_rate_stays_between_final_and_peak(name, length, final, step, peak):
    schedule = schedules.make(name, peak, decay_steps=length, warmup_steps=length // 3, final_fraction=final)
    assert -1e-9 <= float(schedule(step)) <= peak * (1 + 1e-5)


def test_group_factor():
    schedule = schedules.make("cosine", 1.0, decay_steps=10)
    assert float(schedule.scaled(0.5)(3)) == pytest.approx(0.5 * float(schedule(3)))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [("cosin", {}, "--schedule is 'cosin'"), ("linear", {"warmup_steps": 100}, "expected less than the 100 steps")],
)
def test_refused(name, options, said):
    with pytest.raises(BadInput, match=said):
        rates(name, **options)


def test_flag_has_every_schedule():
    """The engine knows no flag, so the names stand in both."""
    assert SCHEDULES == schedules.NAMES
