"""The class prior on logits: kept where class shares explain the stream, left alone where something else shifted.

Six classes of questions in uneven shares, of which the rarest has nine validation examples. Half of the second class
are "definitions", whose logits lean to the rarest class: streams with more of them look like ones with more of that.
"""

import json

import numpy as np
import pytest

from zoo.adaptation import guards
from zoo.adaptation.stage import StreamContext
from zoo.adaptation.stages.output import Prior
from zoo.metrics import temperature_scaling
from zoo.predict.calibration.label_shift import LabelShiftEstimate
from zoo.predict.evaluation.held_out import HeldOut

SHARES = np.array([0.016, 0.213, 0.229, 0.224, 0.153, 0.165])
OTHER_SHARES = np.array([0.018, 0.276, 0.188, 0.13, 0.162, 0.226])
DEFINITIONS, MORE_DEFINITIONS = 0.12, 0.9
BATCH = 100


def questions(seed, counts, definitions):
    """Logits `[examples, 6]` and labels, in random order."""
    draw = np.random.default_rng(seed)
    labels = draw.permutation(np.repeat(np.arange(6), counts)).astype(np.int32)
    logits = 2.4 * np.eye(6)[labels] + draw.normal(size=(len(labels), 6))
    logits[:, 0] -= 2.2
    logits[labels == 0, 0] += 1.2
    defines = (labels == 1) & (draw.random(len(labels)) < definitions)
    logits[defines, :2] += [2.9, -0.6]
    return (1.5 * logits).astype(np.float32), labels


def validation(seed):
    logits, labels = questions(seed, np.round(545 * SHARES).astype(int), DEFINITIONS)
    return HeldOut(logits, labels, logits)


def batches(logits):
    return [logits[first : first + BATCH] for first in range(0, len(logits), BATCH)]


def answered(stage, logits):
    """Predictions `[examples]` of the stage in batches, and its reasons; "" where it corrects."""
    answers, reasons = [], []
    for number, batch in enumerate(batches(logits)):
        recent = logits[max(0, (number - 3) * BATCH) : (number + 1) * BATCH]
        reasons.append(stage.propose(StreamContext(batch, recent, recent, lambda examples: examples, False)))
        answers.append(stage.logits(batch, lambda examples: examples).argmax(axis=1))
    return np.concatenate(answers), reasons


def begun(source):
    stage = Prior()
    stage.begin(None, source)
    return stage


def trusted(source, logits):
    """Predictions of the estimate alone, as soon as a shift is detected."""
    calibration = temperature_scaling.bias_corrected(source.logits, source.labels)
    estimate, answers = LabelShiftEstimate.from_validation(calibration.apply(source.logits)), []
    for batch in batches(logits):
        estimate, corrected = estimate.update(calibration.apply(batch))
        answers.append((corrected if estimate.shifted else batch).argmax(axis=1))
    return np.concatenate(answers)


@pytest.mark.parametrize("seed", [0, 3, 7])
def test_other_questions_of_a_class_are_not_taken_for_more_of_a_rare_class(seed):
    source = validation(seed)
    logits, labels = questions(100 + seed, np.round(1000 * OTHER_SHARES).astype(int), MORE_DEFINITIONS)
    plain, (answers, reasons) = logits.argmax(axis=1), answered(begun(source), logits)
    estimated = trusted(source, logits)
    assert np.mean(estimated == labels) < np.mean(plain == labels) - 0.03
    assert np.mean(estimated == 0) > 0.1 > 5 * np.mean(labels == 0)
    assert np.mean(answers == labels) >= np.mean(plain == labels) - 0.003
    assert any("class proportions explain" in reason for reason in reasons)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_other_shares_still_gain(seed):
    source = validation(seed)
    counts = np.round(1000 * np.array([0.004, 0.05, 0.15, 0.05, 0.146, 0.6])).astype(int)
    logits, labels = questions(200 + seed, counts, DEFINITIONS)
    plain, trust = ((each == labels).mean() for each in (logits.argmax(axis=1), trusted(source, logits)))
    answers, reasons = answered(begun(source), logits)
    assert reasons[-1] == "" and trust > plain + 0.02
    assert np.mean(answers == labels) > plain + 0.8 * (trust - plain)


def test_a_rare_class_grows_by_little():
    """Even where the stream has plenty of it: nine examples do not tell how it looks."""
    stage, targets = begun(validation(3)), []
    logits, _ = questions(300, [300, 140, 140, 140, 140, 140], DEFINITIONS)
    for batch in batches(logits):
        stage.propose(StreamContext(batch, batch, batch, lambda examples: examples, False))
        targets.append(stage.state()["target"])
    corrected = [target[0] / SHARES[0] for target in targets if target is not None]
    assert len(corrected) >= 2 and 1.5 < max(corrected) < (1 + 9 / 5) * 1.2


def test_a_changed_model_ends_the_correction():
    stage, (logits, _) = begun(validation(3)), questions(200, [4, 50, 150, 50, 146, 600], DEFINITIONS)
    answered(stage, logits)
    assert stage.state()["target"] is not None
    batch = logits[:BATCH]
    assert "model has changed" in stage.propose(StreamContext(batch, batch, batch, lambda examples: examples, True))
    np.testing.assert_array_equal(stage.logits(batch, lambda examples: examples), batch)


def test_the_state_continues_as_it_was():
    source, (logits, _) = validation(3), questions(200, [4, 50, 150, 50, 146, 600], DEFINITIONS)
    whole, first, second = begun(source), begun(source), begun(source)
    answers, _ = answered(whole, logits)
    head, _ = answered(first, logits[:500])
    second.load(json.loads(json.dumps(first.state())))
    tail, _ = answered(second, logits[500:])
    np.testing.assert_array_equal(answers, np.concatenate([head, tail]))
    assert second.state() == whole.state()
    # A state of former versions is the estimate alone.
    second.load(first.state()["prior"])
    assert second.state()["prior"] == first.state()["prior"] and second.state()["target"] is None


def test_more_classes_than_can_be_tested_are_left_alone():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 150, 600).astype(np.int32)
    logits = (6 * np.eye(150)[labels] + draw.normal(size=(600, 150))).astype(np.float32)
    answers, reasons = answered(begun(HeldOut(logits, labels, logits)), logits[labels < 20])
    np.testing.assert_array_equal(answers, logits[labels < 20].argmax(axis=1))
    assert all("150 classes: label shift is tested for 128 at most" in reason for reason in reasons)


def test_a_class_predicted_once_has_no_distance_of_its_own():
    """Its mean is that example: a median of 0 made every other one infinitely far."""
    logits, labels = questions(0, [0, 100, 100, 100, 100, 100], 0.0)
    logits[0] = [9, 0, 0, 0, 0, 0]
    guard = guards.Guards(HeldOut(logits, labels, logits))
    assert np.isfinite(guard.relative_distances(logits)).all()
    assert guard.relative_distances(np.array([[8.0, 0, 0, 0, 0, 0]]))[0] < 10


@pytest.mark.parametrize("examples", [1, 2, 50])
def test_validation_examples_without_variance_do_no_harm(examples):
    """One or two, or all alike: their covariance is 0, and any other example infinitely far."""
    logits, labels = questions(0, [40] * 6, DEFINITIONS)
    rows = np.zeros(50, int) if examples == 50 else np.arange(examples)
    answers, reasons = answered(begun(HeldOut(logits[rows], labels[rows], logits[rows])), logits)
    np.testing.assert_array_equal(answers, logits.argmax(axis=1))
    assert all(reasons)


@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_one_example_again_and_again_is_not_label_shift(size):
    logits, _ = questions(1, [0, 100, 100, 100, 100, 100], DEFINITIONS)
    stage, batch = begun(validation(3)), np.repeat(logits[:1], size, axis=0)
    for _ in range(20):
        reason = stage.propose(StreamContext(batch, batch, batch, lambda examples: examples, False))
    assert reason and stage.state()["target"] is None


def test_a_dozen_examples_again_and_again_are_a_dozen():
    logits, _ = questions(1, [2, 2, 2, 2, 2, 2], DEFINITIONS)
    stage = begun(validation(3))
    draw, recent = np.random.default_rng(0), np.zeros((0, logits.shape[1]))
    for _ in range(20):
        batch = logits[draw.integers(0, 12, 100)] + draw.uniform(-1e-6, 1e-6, (100, 1))
        recent = np.concatenate([recent, batch])[-400:]
        reason = stage.propose(StreamContext(batch, recent, recent, lambda examples: examples, False))
        assert reason and stage.state()["target"] is None
    assert stage._stream.weight < 14
    # A model with few different answers repeats itself on different examples.
    few = HeldOut(None, np.arange(600, dtype=np.int32) % 6, 3 * np.eye(6)[np.arange(600) % 6])
    stage = begun(few)
    batch = 3 * np.eye(6)[np.repeat([0, 1], [90, 10])]
    stage.propose(StreamContext(batch, batch, batch, lambda examples: examples, False))
    assert stage._stream.weight == 100


def test_no_class_is_impossible():
    """Logits so far apart that the softmax of a class is 0 on all of validation."""
    logits, labels = questions(0, [0, 100, 100, 100, 100, 100], 0.0)
    logits[:, 0] = -1e6
    answers, _ = answered(begun(HeldOut(logits, labels, logits)), logits)
    np.testing.assert_array_equal(answers, logits.argmax(axis=1))
