"""Stages on the output: temperature and the classes' shares, on logits of a predictor that needs no training."""

import keras
import numpy as np
import pytest

from zoo.adaptation import plans
from zoo.adaptation.refiner import refine
from zoo.adaptation.stage import StreamContext
from zoo.adaptation.stages.output import Prior, Temperature
from zoo.adaptation.stages.statistics import BatchStatistics
from zoo.errors import BadInput
from zoo.metrics import temperature_scaling
from zoo.metrics.logits import class_probabilities
from zoo.predict.evaluation.held_out import HeldOut
from zoo.predict.predictors.array_classifier import ArrayClassifier

CLASSES = 4
# Too sure by half: the truth is a normal distribution of unit variance around each class' corner.
SURE = 1.5
GAP = 1.6


@pytest.fixture(scope="module")
def known():
    inputs = keras.Input((CLASSES,))
    model = keras.Model(inputs, keras.layers.Dense(CLASSES)(inputs))
    model.set_weights([SURE * GAP * np.eye(CLASSES, dtype=np.float32), np.zeros(CLASSES, np.float32)])
    found = ArrayClassifier(model, tuple("abcd"))
    x, y = drawn(2000, np.full(CLASSES, 1 / CLASSES), 0)
    return found, HeldOut(x, y, found.logits(x))


def drawn(examples, shares, seed):
    draw = np.random.default_rng(seed)
    y = draw.choice(CLASSES, examples, p=shares).astype(np.int32)
    return (GAP * np.eye(CLASSES)[y] + draw.normal(size=(examples, CLASSES))).astype(np.float32), y


def batches(x, size=100):
    return [x[first : first + size] for first in range(0, len(x), size)]


def log_loss(probabilities, y):
    return float(-np.log(probabilities[np.arange(len(y)), y]).mean())


def test_temperature_comes_true_and_changes_no_answer(known):
    found, source = known
    x, y = drawn(2000, np.full(CLASSES, 1 / CLASSES), 1)
    plain = class_probabilities(found.logits(x))
    refined = refine(found, batches(x), [Temperature()], source)
    np.testing.assert_array_equal(refined.probabilities.argmax(axis=1), plain.argmax(axis=1))
    stage = Temperature()
    stage.begin(found, source)
    assert stage.logits(np.array([[3.0, 0.0, 0.0, 0.0]]), np.asarray)[0, 0] == pytest.approx(3.0 / SURE, rel=0.1)
    assert log_loss(refined.probabilities, y) < log_loss(plain, y)


def test_confidence_is_raised_by_what_is_certain(known):
    """A temperature below 1 moves towards 1 by its standard error: thirty examples do not tell it, two thousand do."""
    found, _ = known
    x, y = drawn(2000, np.full(CLASSES, 1 / CLASSES), 5)
    shy = found.logits(x) / (2 * SURE)  # the temperature that calibrates is 0.5
    temperatures = []
    for examples in (30, 2000):
        stage = Temperature()
        stage.begin(found, HeldOut(x[:examples], y[:examples], shy[:examples]))
        fitted = temperature_scaling.temperature(shy[:examples], y[:examples]).temperature
        error = temperature_scaling.standard_error(shy[:examples], fitted)
        temperatures.append((1 / stage.logits(np.eye(CLASSES), np.asarray)[0, 0], fitted * np.exp(error)))
    np.testing.assert_allclose(*zip(*temperatures), rtol=1e-6)
    assert 0.5 < temperatures[0][0] < 1 and temperatures[1][0] == pytest.approx(0.5, rel=0.06)
    # Where nothing is known, nothing changes; and what is overconfident is lowered in full.
    stage = Temperature()
    stage.begin(found, HeldOut(x[:2], y[:2], np.eye(CLASSES)[y[:2]] / 10))
    assert stage.logits(np.eye(CLASSES), np.asarray)[0, 0] == 1
    stage.begin(found, HeldOut(x, y, found.logits(x)))
    fitted = temperature_scaling.temperature(found.logits(x), y).temperature
    assert fitted > 1 and stage.logits(np.eye(CLASSES), np.asarray)[0, 0] == pytest.approx(1 / fitted)


def test_no_confidence_is_raised_where_the_inputs_have_drifted(known):
    found, source = known
    x, _ = drawn(100, np.full(CLASSES, 1 / CLASSES), 6)
    for factor, is_raised in ((1 / (2 * SURE), True), (1.0, False)):
        stage = Temperature()
        stage.begin(found, source._replace(logits=factor * source.logits))
        context = StreamContext(x, x, found.logits(x), found.logits, False)
        answers = []
        for drifted in (True, False):
            stage.propose(context._replace(drifted=drifted))
            answers.append(stage.logits(x, found.logits))
        assert np.array_equal(answers[0], found.logits(x)) == is_raised
        assert np.array_equal(*answers) != is_raised
        # A stream that goes on from a file, or begins anew, knows it, too.
        stage.propose(context._replace(drifted=True))
        state = stage.state()
        stage.load(None)
        np.testing.assert_array_equal(stage.logits(x, found.logits), answers[1])
        stage.load(state)
        np.testing.assert_array_equal(stage.logits(x, found.logits), answers[0])


def test_other_shares_are_found_and_corrected(known):
    found, source = known
    x, y = drawn(3000, np.array([0.85, 0.05, 0.05, 0.05]), 2)
    plain = class_probabilities(found.logits(x))
    refined = refine(found, batches(x), [Temperature(), Prior()], source)
    wrong = (refined.probabilities.argmax(axis=1) != y).mean(), (plain.argmax(axis=1) != y).mean()
    assert wrong[0] < 0.7 * wrong[1]
    accepted = [line for line in refined.trace if line.stage == "prior" and line.accepted]
    assert len(accepted) > 25 and all(line.reason == "on its own evidence" for line in accepted)


def test_the_same_shares_are_left_alone(known):
    found, source = known
    x, _ = drawn(3000, np.full(CLASSES, 1 / CLASSES), 3)
    refined = refine(found, batches(x), [Prior()], source)
    assert not any(line.accepted for line in refined.trace)
    plain = np.concatenate([class_probabilities(found.logits(batch)) for batch in batches(x)])
    np.testing.assert_array_equal(refined.probabilities, plain)


def test_expected_errors_are_those_of_the_same_scale(known):
    """A temperature lowers all confidences: against the trained model's, that would look like errors."""
    found, source = known
    x, y = drawn(1000, np.full(CLASSES, 1 / CLASSES), 6)
    refined = refine(found, batches(x), [Temperature(), Prior()], source)
    wrong = (found.logits(x).argmax(axis=1) != y).mean()
    expected = np.mean([line.before.error for line in refined.trace if line.stage == "prior"])
    assert expected == pytest.approx(wrong, abs=0.05)


def test_other_inputs_are_not_taken_for_other_shares(known):
    found, source = known
    x, _ = drawn(1000, np.full(CLASSES, 1 / CLASSES), 5)
    # All of a class, by far, which shares would explain.
    moved = x + np.array([6.0, 0, 0, 0], np.float32)
    refined = refine(found, batches(moved), [Prior()], source)
    assert all("not only label shift" in line.reason for line in refined.trace)
    plain = np.concatenate([class_probabilities(found.logits(batch)) for batch in batches(moved)])
    np.testing.assert_array_equal(refined.probabilities, plain)


def test_an_empty_batch_is_no_news(known):
    found, source = known
    x, _ = drawn(60, np.full(CLASSES, 1 / CLASSES), 7)
    refined = refine(found, [x[:0], x[:30], x[:0], x[30:]], [Temperature(), Prior()], source)
    assert refined.probabilities.shape == (60, CLASSES) and len(refined.trace) == 4


def test_auto_goes_without_a_stage_that_needs_each_class(known):
    found, source = known
    rows = source.labels != 3
    some = HeldOut(source.examples[rows], source.labels[rows], source.logits[rows])
    x, _ = drawn(100, np.full(CLASSES, 1 / CLASSES), 8)
    refined = refine(found, [x], plans.stages(["auto"], found, "."), some)
    assert "no example of 'd'" in next(line.reason for line in refined.trace if line.stage == "statistics")
    assert np.isfinite(refined.probabilities).all()
    with pytest.raises(BadInput, match="--refine=statistics: the validation split has no example of 'd'"):
        refine(found, [x], plans.stages(["statistics"], found, "."), some)


class Moves:
    """A stage that changes the model a little, for the better by its own account."""

    name, target, max_score_ratio, restarts_each_batch = "moves", "model", 1.0, False

    def begin(self, predictor, source):
        self._dense = predictor.model.layers[-1]

    def propose(self, seen):
        self._dense.bias.assign_add(np.array([0.01, 0, 0, 0], np.float32))
        return ""

    def logits(self, examples, inner):
        return inner(examples)

    def state(self):
        return self._dense.bias.numpy()

    def load(self, state):
        self._dense.bias.assign(state)


def test_shares_are_not_told_from_a_model_that_has_changed(known):
    found, source = known
    # Away from the corners, where any bias is more typical or less.
    x, _ = drawn(1000, np.array([0.85, 0.05, 0.05, 0.05]), 4)
    refined = refine(found, batches(x - np.array([0.5, 0, 0, 0], np.float32)), [Moves(), Prior()], source)
    moved = [line.accepted for line in refined.trace if line.stage == "moves"]
    first = moved.index(True)
    later = [line for line in refined.trace if line.stage == "prior" and line.batch >= first]
    assert later and all("model has changed" in line.reason for line in later)


def test_the_model_comes_before_its_output(known):
    found, source = known
    with pytest.raises(BadInput, match=r"prior \(output\), statistics \(model\): expected stages on the model before"):
        refine(found, [], [Prior(), BatchStatistics()], source)
