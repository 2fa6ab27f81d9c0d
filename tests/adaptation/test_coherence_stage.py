"""Neighbours in a stream that share a class: the hidden Markov model, and the stage that asks for a proof."""

import itertools

import numpy as np
import pytest

from zoo.adaptation.stage import StreamContext
from zoo.adaptation.stages import hidden_markov
from zoo.adaptation.stages.coherence import Coherence
from zoo.metrics.logits import class_probabilities
from zoo.predict.evaluation.held_out import HeldOut


def answers(labels, classes, sharpness, seed, bias=None):
    """Logits of a mediocre classifier."""
    draw = np.random.default_rng(seed)
    logits = sharpness * np.eye(classes)[labels] + draw.normal(size=(len(labels), classes))
    return logits + (0 if bias is None else bias)


def begun(classes):
    stage = Coherence()
    stage.begin(None, HeldOut(None, np.arange(classes), np.eye(classes)))
    return stage


def answered(stage, logits, batch):
    """The stage's probabilities of a stream, batch by batch, with a memory of 400, and the reasons."""
    parts, reasons = [], []
    for first in range(0, len(logits), batch):
        examples = np.arange(first, min(first + batch, len(logits)))
        recent = np.arange(max(0, examples[-1] - 399), examples[-1] + 1)
        reasons.append(stage.propose(StreamContext(examples, recent, logits[recent], None, False)))
        parts.append(class_probabilities(stage.logits(examples, lambda asked: logits[asked])))
    return np.concatenate(parts), reasons


def wrong(probabilities, labels):
    return float((probabilities.argmax(axis=1) != labels).mean())


def by_enumeration(probabilities, stay, temperature, counts):
    """Posterior `[examples, classes]` and evidence by a sum over all sequences of classes."""
    roots = np.maximum(probabilities, 1e-4) ** (1 / temperature)
    roots /= roots.sum(axis=1, keepdims=True)
    shares = (counts + roots.sum(axis=0)) / (counts + roots.sum(axis=0)).sum()
    examples, classes = roots.shape
    total, marginal = 0.0, np.zeros((examples, classes))
    for sequence in itertools.product(range(classes), repeat=examples):
        weight = (stay / classes + (1 - stay) * shares[sequence[0]]) * roots[0, sequence[0]] / shares[sequence[0]]
        for number in range(1, examples):
            one, before = sequence[number], sequence[number - 1]
            weight *= stay * (one == before) + (1 - stay) * shares[one]
            weight *= roots[number, one] / shares[one]
        total += weight
        for number, one in enumerate(sequence):
            marginal[number, one] += weight
    return marginal / total, total


def test_a_burst_is_not_of_a_class_that_its_own_answers_deny(monkeypatch):
    """In three of four examples class 1, but class 0 has hardly come so far: its share makes a few mistakes count."""
    known = np.random.default_rng(1).integers(0, 3, 600)
    stage = Coherence()
    stage.begin(None, HeldOut(None, known, answers(known, 3, 4.0, 2)))
    labels = np.repeat([1, 0], [75, 25])
    for size, damage, is_denied in ((100, 0.0, True), (12, 0.0, True), (8, 0.0, False), (100, 9.0, False)):
        # Damage moves the logits away from their class means along a direction that no class decides.
        logits = answers(labels, 3, 4.0, 3) + damage * np.array([0, 0, -1.0])
        logits = logits[:: 100 // size][:size]
        as_class_0 = np.tile([0.98, 0.01, 0.01], (len(logits), 1))
        proved = hidden_markov.initial(3)._replace(evidence=np.full_like(hidden_markov.initial(3).evidence, 9.0))
        monkeypatch.setattr(hidden_markov, "follow", lambda *_, found=(proved, as_class_0): found)
        stage.load({"belief": None, "logits": None})
        reason = stage.propose(StreamContext(logits, logits, logits, None, False))
        assert (reason == "the answers of neighbours point to another class than their order") == is_denied, size
        expected = logits if is_denied else np.log(as_class_0)
        np.testing.assert_allclose(stage.logits(logits, lambda asked: asked), expected)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_shift_that_has_ended_leaves_the_answers_their_say(monkeypatch, is_damaged):
    """Three of four recent examples are damaged; those to be answered are, or are not, and then deny class 0."""
    known = np.random.default_rng(1).integers(0, 3, 600)
    stage = Coherence()
    stage.begin(None, HeldOut(None, known, answers(known, 3, 4.0, 2)))
    logits = answers(np.repeat([1, 0], [300, 100]), 3, 4.0, 3)
    logits[: 400 if is_damaged else 300] += 9.0 * np.array([0, 0, -1.0])
    logits[300:] = logits[300:][:, [1, 0, 2]]
    as_class_0 = np.tile([0.98, 0.01, 0.01], (100, 1))
    proved = hidden_markov.initial(3)._replace(evidence=np.full_like(hidden_markov.initial(3).evidence, 9.0))
    monkeypatch.setattr(hidden_markov, "follow", lambda *_: (proved, as_class_0))
    reason = stage.propose(StreamContext(logits[300:], logits, logits, None, False))
    assert (reason == "") == is_damaged


def test_posterior_and_evidence_are_those_of_all_sequences():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 6)
    belief, found = hidden_markov.follow(hidden_markov.initial(3), probabilities)
    expected, weights = 0.0, 0.0
    for row, temperature in enumerate(hidden_markov.TEMPERATURES):
        for column, stay in enumerate(hidden_markov.STAYS):
            posterior, evidence = by_enumeration(probabilities, stay, temperature, np.full(3, 0.5 * np.exp(-6 / 400)))
            np.testing.assert_allclose(np.exp(belief.evidence[row, column]), evidence, rtol=1e-10)
            expected, weights = expected + evidence * posterior, weights + evidence
    np.testing.assert_allclose(found, expected / weights, atol=1e-10)
    np.testing.assert_allclose(belief.log_evidence, np.log(weights / belief.evidence.size))


@pytest.mark.parametrize("bias", [None, np.array([4.0, 0, 0, 0, 0])], ids=["even", "skewed"])
def test_a_random_order_proves_nothing(bias):
    """However bad the answers are: an e-value of 1,000 comes by chance in one of a thousand streams."""
    largest = []
    for seed in range(60):
        labels = np.random.default_rng(seed).integers(0, 5, 200)
        logits = 3 * answers(labels, 5, 1.0, seed, bias)
        belief, _ = hidden_markov.follow(hidden_markov.initial(5), class_probabilities(logits))
        largest.append(belief.log_evidence)
    assert max(largest) < np.log(1000)
    probabilities, reasons = answered(begun(5), logits, 50)
    np.testing.assert_array_equal(probabilities, class_probabilities(logits))
    assert all("no persistence" in reason for reason in reasons)


@pytest.mark.parametrize("batch", [1, 20, 200])
@pytest.mark.parametrize("length", [8, 40])
def test_neighbours_of_one_class_help_each_other(batch, length):
    labels = np.repeat(np.random.default_rng(1).integers(0, 5, 400 // length), length)
    logits = answers(labels, 5, 1.5, 2)
    probabilities, reasons = answered(begun(5), logits, batch)
    assert reasons[-1] == "" and wrong(logits, labels) > 0.25
    # Until persistence is proved the answers are plain; a large batch also has the examples that follow.
    assert wrong(probabilities, labels) < (0.75 if length == 8 else 0.5) * wrong(logits, labels)


def test_a_change_of_the_model_is_not_an_order():
    """Answers of one class first, by another model, and of another class since: the order tells nothing of classes."""
    labels = np.random.default_rng(3).integers(0, 5, 400)
    first = answers(labels, 5, 0.5, 4, 6 * np.eye(5)[0])
    second = answers(labels, 5, 0.5, 4, 6 * np.eye(5)[1])
    stage = begun(5)
    early, late = np.arange(200), np.arange(200, 400)
    assert "no persistence" in stage.propose(StreamContext(early, early, first[early], None, False))
    assert "no persistence" in stage.propose(StreamContext(late, np.arange(400), second, None, False))


@pytest.mark.parametrize("batch", [1, 50, 400])
def test_repeated_examples_are_no_neighbours(batch):
    """Twenty times the same example: of one class, but no more is known of it than from the first."""
    labels = np.random.default_rng(7).integers(0, 20, 20)
    logits = np.repeat(answers(labels, 20, 2.0, 8), 20, axis=0)
    probabilities, reasons = answered(begun(20), logits, batch)
    assert all("no persistence" in reason for reason in reasons)
    np.testing.assert_array_equal(probabilities, class_probabilities(logits))


def test_only_the_batch_has_neighbours():
    labels = np.repeat(np.arange(4), 50)
    logits = answers(labels, 4, 2.0, 5)
    stage, batch, other = begun(4), np.arange(200), np.arange(200)
    assert stage.propose(StreamContext(batch, batch[:], logits, None, False)) == ""
    assert not np.array_equal(stage.logits(batch, lambda asked: logits[asked]), logits)
    np.testing.assert_array_equal(stage.logits(other, lambda asked: logits[asked]), logits)


def test_the_state_goes_on():
    labels = np.repeat(np.arange(4), 50)
    logits = answers(labels, 4, 1.0, 6)
    whole, _ = answered(begun(4), logits, 20)
    first = begun(4)
    early, _ = answered(first, logits[:100], 20)
    second = begun(4)
    second.load(first.state())
    parts = []
    for start in range(100, 200, 20):
        examples, recent = np.arange(start, start + 20), np.arange(start + 20)
        second.propose(StreamContext(examples, recent, logits[recent], None, False))
        parts.append(class_probabilities(second.logits(examples, lambda asked: logits[asked])))
    np.testing.assert_allclose(np.concatenate([early, *parts]), whole, atol=1e-12)
