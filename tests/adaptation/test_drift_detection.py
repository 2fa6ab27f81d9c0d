"""A stream that changes its kind at once is forgotten, and one that does not is remembered."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.helpers.digits import batches, bright, run, unseen
from zoo.adaptation.drift_detection import Drift
from zoo.adaptation.guards import Guards
from zoo.adaptation.refiner import refine
from zoo.adaptation.stages.statistics import BatchStatistics
from zoo.predict.evaluation import held_out
from zoo.predict.predictors import loading


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    # Without label smoothing a network this small is as sure of damaged digits as of others.
    folder = run(tmp_path_factory.mktemp("digits") / "run", label_smoothing=0.1, dropout=0.3, steps=600)
    found = loading.load(folder)
    return found, held_out.load(folder, found), *unseen()


def sizes(found, drift, stream):
    return [drift.update(found.logits(batch)) for batch in stream]


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 120), seed=st.integers(0, 9))
def test_what_does_not_change_is_remembered(trained, size, seed):
    found, known, x, _ = trained
    order = np.random.default_rng(seed).permutation(len(x))[:300]
    for stream in (x[order], bright(x[order])):
        expected = [min(first + size, 300) for first in range(0, 300, size)]
        # A batch more than the memory pushes out what is older.
        assert sizes(found, Drift(Guards(known), 300), batches(stream, size)) == expected


@pytest.mark.parametrize("size", [25, 50, 100])
def test_what_changes_at_once_is_forgotten(trained, size):
    found, known, x, _ = trained
    kept = sizes(found, Drift(Guards(known), 400), batches(np.concatenate([x[:200], bright(x[200:400])]), size))
    before, after = kept[: 200 // size], kept[200 // size :]
    assert before == [size * n for n in range(1, 200 // size + 1)]
    # Of batches smaller than the fewest that say something, the second one tells.
    assert min(after) == max(size, 32) and after[-1] < 200 + 32
    assert min(after) in after[:2]


def test_other_shares_of_the_classes_are_no_change(trained):
    found, known, x, y = trained
    order = np.argsort(y, kind="stable")
    assert sizes(found, Drift(Guards(known), 500), batches(x[order], 50)) == [50 * n for n in range(1, 11)]


def test_the_statistic_is_the_share_of_pairs(trained):
    """Of those in which the late example is further away: that of pairs counted one by one."""
    found, known, x, _ = trained
    guard = Guards(known)
    near, far = (guard.relative_distances(found.logits(part)) for part in (x[:100], bright(x[100:200])))
    share = (far[:, None] > near[None]).mean()
    assert stats.mannwhitneyu(far, near, method="asymptotic").statistic / 1e4 == pytest.approx(share, abs=1e-4)
    assert share > 0.9


def test_after_a_change_statistics_are_fitted_to_what_comes(trained):
    """Together with what was before, no fit of the first batch would be sure enough."""
    found, known, x, y = trained
    stream = batches(np.concatenate([x[:300], bright(x[300:500])]))
    refined = refine(found, stream, [BatchStatistics()], known)
    assert [line.accepted for line in refined.trace] == [False, False, False, True, True]
    assert [line.recent for line in refined.trace] == [100, 200, 300, 100, 200]
    assert [line.new_kind for line in refined.trace] == [False, False, False, True, False]
    wrong = refined.probabilities.argmax(axis=1) != y
    assert wrong[300:].mean() < wrong[:300].mean() + 0.05
