"""The monitor of a stream, and what is promised after an alarm, in simulation."""

import numpy as np
import pytest

from zoo.adaptation import promises
from zoo.adaptation.promises import Asked, Labelled, Promises
from zoo.adaptation.shift_monitor import ShiftMonitor
from zoo.metrics.logits import class_probabilities
from zoo.predict.evaluation.held_out import HeldOut


def drawn(seed, examples, shares=(0.25,) * 4, gap=4.0):
    """Logits of a classifier of four classes, and labels; the first two classes are hard to tell apart."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(4, examples, p=shares)
    centres = gap * np.eye(4)
    centres[1] = 0.3 * centres[0] + 0.7 * centres[1]
    return (centres[labels] + draw.standard_normal((examples, 4))).astype(np.float32), labels


def halves(seed, examples=2000):
    logits, labels = drawn(seed, examples)
    middle = examples // 2
    parts = slice(middle), slice(middle, None)
    return tuple(HeldOut(np.zeros((middle, 1)), labels[part], logits[part]) for part in parts)


def made(seed, labelled=None, **asked):
    asked = {"risk": 0.1, "alpha": 0.1, "class_conditional": False, **asked}
    fit, reference = halves(seed)
    probabilities = class_probabilities(reference.logits)
    asked = Asked(**asked, decide=lambda each: each.argmax(axis=1))
    return Promises(asked, fit, reference, reference.labels, lambda: probabilities, labelled)


def fed(promised, logits, size=100):
    return [promised.update(logits[first : first + size]) for first in range(0, len(logits), size)]


def outcome(rules, logits, labels):
    """The risk among answers, and the coverage of the sets."""
    probabilities = class_probabilities(logits)
    answered = rules.abstention.answers(probabilities.max(axis=1))
    wrong = probabilities.argmax(axis=1) != labels
    sets = rules.sets.sets(probabilities, probabilities.argmax(axis=1))
    return wrong[answered].mean(), sets[np.arange(len(labels)), labels].mean()


def test_unshifted_streams_raise_no_alarm():
    for seed in range(8):
        monitor = ShiftMonitor(halves(seed)[0], halves(seed)[1].logits)
        monitor.update(drawn(100 + seed, 1000)[0])
        assert monitor.alarm is None and max(monitor.wealths) < 100


@pytest.mark.parametrize(
    ("shift", "sign"),
    [({"gap": 2.5}, "the confidences are"), ({"shares": (0.7, 0.1, 0.1, 0.1)}, "the predicted classes are")],
)
def test_a_shift_is_noticed_in_whatever_batches(shift, sign):
    alarms = []
    for size in (1, 250):
        monitor = ShiftMonitor(*((each if not place else each.logits) for place, each in enumerate(halves(0))))
        stream = np.concatenate([drawn(1, 500)[0], drawn(2, 500, **shift)[0]])
        for first in range(0, len(stream), size):
            monitor.update(stream[first : first + size])
        alarms.append(monitor.alarm)
    assert alarms[0] == alarms[1] and 500 <= alarms[0].example < 700
    assert alarms[0].signs == sign and 400 < alarms[0].since <= 520
    assert f"noticed at example {alarms[0].example + 1:,}, evidence" in alarms[0].line()


def test_under_label_shift_the_promise_follows_the_class_proportions():
    """Nearly all examples are of the two classes that are hard to tell apart: the old rules break their promise."""
    shares = (0.1, 0.84, 0.03, 0.03)
    promised = made(0)
    steps = fed(promised, drawn(1, 3000, shares)[0])
    assert steps[-10:] == [promises.PROPORTIONS] * 10
    new = drawn(2, 20000, shares)
    risk, covered = outcome(promised.rules, *new)
    assert risk > 0.12 and covered < 0.88
    risk, covered = outcome(promised.rules_of(promises.PROPORTIONS), *new)
    assert risk < 0.1 and 0.87 < covered < 0.95


def test_class_conditional_sets_keep_their_promise_under_label_shift():
    promised = made(0, class_conditional=True)
    assert fed(promised, drawn(1, 2000, (0.1, 0.84, 0.03, 0.03))[0])[-1] == promises.PROPORTIONS
    assert promised.rules_of(promises.PROPORTIONS).sets == promised.rules.sets


def test_another_shift_ends_the_promise():
    promised = made(0)
    steps = fed(promised, np.concatenate([drawn(1, 300)[0], drawn(2, 500, gap=1.0)[0]]))
    assert steps == [promises.VALIDATION] * 3 + [promises.NONE] * 5 and promised.first == 301
    rules, logits = promised.rules_of(promises.NONE), drawn(3, 10)[0]
    assert not rules.abstention.answers(class_probabilities(logits).max(axis=1)).any()
    assert rules.sets.sets(class_probabilities(logits), logits.argmax(axis=1)).all()


def test_labelled_examples_keep_the_promise_while_the_stream_is_like_them():
    logits, labels = drawn(5, 600, gap=2.5)
    labelled = Labelled(labels, logits, lambda: class_probabilities(logits))
    promised = made(0, labelled)
    assert fed(promised, drawn(6, 600, gap=2.5)[0]) == [promises.LABELLED] * 6
    risk, covered = outcome(promised.rules, *drawn(7, 20000, gap=2.5))
    assert risk > 0.11 and covered < 0.88
    risk, covered = outcome(promised.rules_of(promises.LABELLED), *drawn(7, 20000, gap=2.5))
    assert risk < 0.1 and 0.87 < covered < 0.94
    assert fed(promised, drawn(8, 1000, gap=0.0)[0])[-1] == promises.NONE


def test_too_few_labelled_examples_promise_nothing():
    logits, labels = drawn(5, 5, gap=2.5)
    promised = made(0, Labelled(labels, logits, lambda: class_probabilities(logits)))
    assert fed(promised, drawn(6, 300, gap=2.5)[0])[-1] == promises.LABELLED
    rules = promised.rules_of(promises.LABELLED)
    assert not rules.abstention.answered and np.isinf(rules.sets.quantiles).all()


def test_a_changed_model_promises_nothing_until_it_is_restored():
    promised, logits = made(0), drawn(1, 300)[0]
    states = [promised.update(part, model_changed=changed) for part, changed in zip(np.split(logits, 3), (0, 1, 0))]
    assert states == [promises.VALIDATION, promises.NONE, promises.VALIDATION]


def test_what_answers_instead_of_early_exits_stays_shifted():
    promised, (fit, _) = made(0), halves(0)
    assert promised.update(drawn(1, 200, gap=1.0)[0]) == promises.NONE
    promised.exchange(fit, promised.outputs)
    assert promised.update(drawn(1, 200)[0]) == promises.NONE
