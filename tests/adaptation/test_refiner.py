"""Prediction in several steps: the loop, its guards, and statistics fitted to a stream, on digits."""

import types

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.digits import batches, bright, error, run, unseen
from zoo.adaptation import guards, plans
from zoo.adaptation import refiner as multi_step
from zoo.adaptation.budget import Budget
from zoo.adaptation.refiner import Refiner, refine
from zoo.adaptation.stages import output, parameters, statistics, tent
from zoo.errors import BadInput
from zoo.metrics.logits import class_probabilities
from zoo.predict.evaluation import held_out
from zoo.predict.predictors import array_classifier, loading
from zoo.predict.predictors.cloning import copied, digest


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network with batch normalisation that reads digits, and what it knows of its source."""
    folder = run(tmp_path_factory.mktemp("digits") / "run")
    found = loading.load(folder)
    return folder, found, held_out.load(folder, found)


@pytest.fixture(scope="module")
def digits():
    return unseen()


def plain(found, stream):
    return np.concatenate([class_probabilities(found.logits(batch)) for batch in stream])


@pytest.mark.parametrize(
    ("plan", "budget"),
    [
        ([], Budget()),
        ([statistics.BatchStatistics()], Budget(steps=0)),
        ([statistics.BatchStatistics()], Budget(seconds=0.0)),
    ],
)
def test_nothing_to_spend_is_the_plain_forward_pass(trained, digits, plan, budget):
    _, found, known = trained
    stream = batches(bright(digits[0]))
    refined = refine(found, stream, plan, known, budget)
    assert refined.trace == []
    np.testing.assert_array_equal(refined.probabilities, plain(found, stream))


def test_a_shift_of_the_inputs_is_mended(trained, digits):
    _, found, known = trained
    x, y = digits
    before = digest(found.model)
    refined = refine(found, batches(bright(x)), [statistics.BatchStatistics()], known)
    clean = float((found.logits(x).argmax(axis=1) != y).mean())
    assert float((found.logits(bright(x)).argmax(axis=1) != y).mean()) > 0.5
    assert error(refined, y) < clean + 0.03
    assert digest(found.model) == before
    assert refined.trace[0].accepted and refined.trace[0].after.distance < refined.trace[0].before.distance


def test_what_did_not_shift_is_left_alone(trained, digits):
    _, found, known = trained
    stream = batches(digits[0])
    refined = refine(found, stream, [statistics.BatchStatistics()], known)
    assert not any(line.accepted for line in refined.trace)
    np.testing.assert_array_equal(refined.probabilities, plain(found, stream))


@pytest.mark.parametrize("shift", [lambda x: x, bright])
def test_a_stream_sorted_by_class_does_no_harm(trained, digits, shift):
    _, found, known = trained
    order = np.argsort(digits[1], kind="stable")
    x, y = shift(digits[0][order]), digits[1][order]
    refined = refine(found, batches(x, 25), [statistics.BatchStatistics()], known, memory=100)
    assert error(refined, y) <= float((found.logits(x).argmax(axis=1) != y).mean()) + 0.01


def test_one_example_at_a_time(trained, digits):
    _, found, known = trained
    x, y = bright(digits[0][:160]), digits[1][:160]
    refined = refine(found, batches(x, 1), [statistics.BatchStatistics()], known, memory=100)
    assert refined.probabilities.shape == (160, 10)
    later = slice(100, None)
    assert float((refined.probabilities.argmax(axis=1) != y)[later].mean()) < 0.25
    assert "too few" in refined.trace[0].reason
    # Of a hundred that are remembered, five new ones are worth another fit; before, fewer.
    tried = [line.batch for line in refined.trace]
    assert tried[:20] == list(range(20)) and set(np.diff(tried)[-10:]) == {5} and len(tried) < 80


def test_a_budget_ends_the_changes_and_not_the_answers(trained, digits):
    _, found, known = trained
    stream = batches(bright(digits[0]))
    refined = refine(found, stream, [statistics.BatchStatistics()], known, Budget(steps=2))
    assert len(refined.trace) == 2 and refined.probabilities.shape == (len(digits[0]), 10)
    by_examples = refine(found, stream, [statistics.BatchStatistics()], known, Budget(examples=150))
    assert [line.batch for line in by_examples.trace] == [0, 1]


class Wrong:
    """A stage that would do harm: it moves all logits to one side, or to nowhere."""

    name, target, max_score_ratio, restarts_each_batch = "wrong", "model", 1.0, False

    def __init__(self, shift):
        self.shift, self.now = shift, np.zeros(10)

    def begin(self, predictor, source):
        pass

    def propose(self, seen):
        self.now = self.shift
        return ""

    def logits(self, examples, inner):
        return inner(examples) + self.now

    def state(self):
        return self.now

    def load(self, state):
        self.now = state


def test_guards_keep_out_what_does_harm(trained, digits):
    _, found, known = trained
    stream = batches(digits[0])
    one_class = np.where(np.arange(10) == 3, 50.0, 0.0)
    for shift, reason in ((one_class, "classes"), (np.full(10, np.nan), "not finite")):
        refined = refine(found, stream, [Wrong(shift)], known)
        assert all(reason in line.reason and not line.accepted for line in refined.trace)
        np.testing.assert_array_equal(refined.probabilities, plain(found, stream))


def test_no_change_may_lower_the_accuracy_on_labelled_examples(trained, digits):
    _, found, known = trained
    x, y = digits
    # More typical than without: all logits grow by what leads to the mean of their class in validation; but the labels
    # say that it is wrong.
    refined = refine(
        found, batches(bright(x)), [statistics.BatchStatistics()], known, labelled=(bright(x), _wrong(found, x, y))
    )
    assert not any(line.accepted for line in refined.trace)
    assert any("labelled" in line.reason for line in refined.trace)


def _wrong(found, x, y):
    return found.logits(bright(x)).argmax(axis=1)


def test_statistics_are_those_of_numpy(trained, digits):
    """One layer, in even shares: the affine change that leads from the source's moments to those that are seen."""
    from zoo.adaptation.stages.normalization import NormalizationFit

    _, found, known = trained
    copy = copied(found)
    norms = NormalizationFit(copy, known.examples, known.labels)
    kernel = next(layer for layer in copy.model.layers if isinstance(layer, keras.layers.Dense)).kernel.numpy()
    z = known.examples.reshape(len(known.examples), -1) / 255.0 @ kernel
    mean = np.stack([z[known.labels == label].mean(0) for label in range(10)])
    square = np.stack([(z[known.labels == label] ** 2).mean(0) for label in range(10)])
    trained_mean, trained_variance = norms.state()[0][-2:]
    x = bright(digits[0])
    seen = x.reshape(len(x), -1) / 255.0 @ kernel
    scale = np.sqrt(seen.var(0) / (square.mean(0) - mean.mean(0) ** 2))
    norms.set(x, np.full(10, 0.1))
    expected = scale * trained_mean + seen.mean(0) - scale * mean.mean(0)
    alive = square.mean(0) > 1e-3
    np.testing.assert_allclose(norms.state()[0][-2][alive], expected[alive], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(norms.state()[0][-1][alive], (scale**2 * trained_variance)[alive], rtol=1e-3)


def test_learning_from_the_stream_goes_through_the_engine(trained, digits):
    _, found, known = trained
    x, y = digits
    noisy = np.clip(x + np.random.default_rng(0).normal(0, 70, x.shape), 0, 255).astype(np.uint8)
    before = digest(found.model)
    first = refine(found, batches(noisy), [statistics.BatchStatistics()], known)
    second = refine(found, batches(noisy), [statistics.BatchStatistics(), parameters.Parameters()], known)
    assert {line.stage for line in second.trace} == {"statistics", "parameters"}
    assert error(second, y) <= error(first, y) + 0.01
    assert digest(found.model) == before


def test_only_scales_and_shifts_are_learned(trained, digits):
    _, found, known = trained
    copy, stage = copied(found), parameters.Parameters(tent.TENT._replace(learning_rate=0.01))
    stage.begin(copy, known)
    weights, state = copy.model.get_weights(), stage.state()
    recent = bright(digits[0][:100])
    stage.propose(multi_step.StreamContext(recent, recent, copy.logits(recent), copy.logits, False))
    changed = [not np.array_equal(a, b) for a, b in zip(weights, copy.model.get_weights())]
    names = [weight.path.split("/")[-1] for weight, moved in zip(copy.model.weights, changed) if moved]
    assert set(names) == {"gamma", "beta"} and len(names) == 4
    stage.load(state)
    assert all(np.array_equal(a, b) for a, b in zip(weights, copy.model.get_weights()))


def test_without_batch_normalisation_the_last_features_are_brought_back(trained):
    """Features that are scaled and moved, as by a shift: the new last layer makes the same logits of them."""
    from zoo.adaptation.stages.normalization import NormalizationFit

    draw = np.random.default_rng(0)
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    found = array_classifier.ArrayClassifier(model, tuple("abc"))
    labels = draw.integers(0, 3, 900).astype(np.int32)
    x = (draw.normal(size=(900, 6)) + 3 * np.eye(6)[labels]).astype(np.float32)
    before = found.logits(x)
    copy = copied(found)
    norms = NormalizationFit(copy, x, labels)
    moved = (x * np.float32([2, 0.5, 1, 3, 1, 1]) + np.float32([1, 0, -2, 0, 5, 0])).astype(np.float32)
    norms.set(moved, np.bincount(labels) / 900)
    np.testing.assert_allclose(copy.logits(moved), before, atol=1e-4)


@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_the_score_knows_only_differences_of_logits(seed, classes):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, 60).astype(np.int32)
    logits = draw.normal(size=(60, classes)) + 4 * np.eye(classes)[labels]
    known = guards.Guards(held_out.HeldOut(None, labels, logits))
    some = logits[:20]
    np.testing.assert_allclose(known.score(some + draw.normal(size=(20, 1))), known.score(some), atol=1e-6)
    assert known.score(some) == known.score(some[draw.permutation(20)])
    assert known.score(some + 30 * draw.normal(size=(20, classes))).distance > known.score(some).distance


def test_the_expected_error_of_validation_is_its_error():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 2000).astype(np.int32)
    logits = 2 * np.eye(4)[labels] + draw.normal(size=(2000, 4))
    score = guards.Guards(held_out.HeldOut(None, labels, logits)).score(logits)
    assert score.error == pytest.approx((logits.argmax(axis=1) != labels).mean(), abs=1e-3)
    assert score.distance == pytest.approx(1.0)


def test_scores_are_compared_by_their_product():
    before = guards.Score(0.35, 4.0)
    assert guards.Score(0.15, 2.0).ratio_to(before) == pytest.approx(0.25)
    # Below the usual distance nothing is gained.
    assert guards.Score(0.35, 0.2).ratio_to(before) == guards.Score(0.35, 1.0).ratio_to(before) == pytest.approx(0.25)
    assert guards.Score(1.0, float("inf")).ratio_to(before) == float("inf")


def test_typical_and_answered_have_their_values():
    assert guards.effective_classes(np.eye(4)) == pytest.approx(4.0)
    assert guards.effective_classes(np.eye(4)[[0, 0]]) == pytest.approx(1.0)
    np.testing.assert_allclose(class_probabilities(np.array([[1000.0, 0.0]])), [[1.0, 0.0]])


def test_what_was_learned_goes_on_from_a_file(trained, digits, tmp_path):
    _, found, known = trained
    stream, plan = batches(bright(digits[0])), [statistics.BatchStatistics(), parameters.Parameters(), output.Prior()]
    whole = refine(found, stream, plan, known)
    first = Refiner(found, plan, known)
    before = [first.answer(batch) for batch in stream[:2]]
    first.save(tmp_path / "state.json")
    second = Refiner(found, [statistics.BatchStatistics(), parameters.Parameters(), output.Prior()], known)
    second.load(tmp_path / "state.json")
    after = [second.answer(batch) for batch in stream[2:]]
    np.testing.assert_allclose(np.concatenate(before + after), whole.probabilities, atol=1e-6)
    second.reset()
    np.testing.assert_array_equal(second.forward(stream[0]), plain(found, stream[:1]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"format": 2}', "format 2, expected 1"),
        ('{"format": 1, "model": "x", "kept": {}}', "another model"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(trained, tmp_path, text, says):
    _, found, known = trained
    path = tmp_path / "state.json"
    path.write_text(text)
    refiner = Refiner(found, [statistics.BatchStatistics()], known)
    with pytest.raises(BadInput, match=says):
        refiner.load(path)
    refiner.save(path)
    with pytest.raises(BadInput, match="of the stages statistics: expected temperature"):
        Refiner(found, [output.Temperature()], known).load(path)


def test_plans_by_name(trained):
    folder, found, _ = trained
    assert [stage.name for stage in plans.stages(["auto"], found, folder)] == [
        "statistics",
        "coral",
        "pose",
        "temperature",
        "prior",
        "coherence",
    ]
    assert plans.stages(["output", "parameters"], found, folder)[0].name == "parameters"
    for names in (["auto", "input"], ["none"], ["input", "input"], ["compute", "statistics"]):
        with pytest.raises(BadInput, match="--refine"):
            plans.stages(names, found, folder)


def test_auto_leaves_the_features_of_texts_alone():
    reader = types.SimpleNamespace(reads_text=True, takes_images=False)
    assert [stage.name for stage in plans.stages(["auto"], reader, "")] == ["temperature", "prior", "coherence"]


class Now:
    """A stage on the output that acts on some single examples only."""

    name, target, max_score_ratio, restarts_each_batch = "now", "output", None, False

    def begin(self, predictor, source):
        self.number = 0

    def propose(self, context):
        self.number += 1
        return "" if self.number in (202, 203) else "not now"

    def logits(self, examples, inner):
        return inner(examples)

    def state(self):
        return self.number

    def load(self, state):
        self.number = state


def test_the_trace_tells_when_a_correction_of_the_output_ends(trained, digits):
    """On single examples, too, where a stage that has nothing to change adds an entry now and then only."""
    _, found, known = trained
    refined = refine(found, batches(digits[0][:230], 1), [Now()], known)
    entries = [(line.batch, line.accepted) for line in refined.trace]
    assert [batch for batch, accepted in entries if accepted] == [201, 202]
    assert (203, False) in entries and (204, False) not in entries


def test_memory_keeps_the_last():
    last = multi_step._last
    np.testing.assert_array_equal(last(np.arange(5), np.arange(5, 8), 6), np.arange(2, 8))
    np.testing.assert_array_equal(last(np.arange(5), np.arange(9), 6), np.arange(9))
    assert last(["a", "b"], ["c"], 2) == ["b", "c"]
