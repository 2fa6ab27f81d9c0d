"""What is promised of the answers of a small LSTM, with early exit and without: `zoo.cli.predict_session`."""

import argparse

import numpy as np
import pytest

from tests.helpers import early
from zoo.cli.predict_session import Session
from zoo.predict.evaluation import held_out

FLAGS = (
    "refine abstain_risk prediction_sets labelled learner budget_steps budget_seconds budget_examples state trace curve"
)
SHIFTED = ["awful lovely great poor"] * 200


@pytest.fixture(scope="module")
def model():
    predictor = early.reader()
    return predictor, early.source(predictor, 800)


@pytest.fixture
def session(model, monkeypatch):
    predictor, source = model
    monkeypatch.setattr(held_out, "load", lambda workdir, loaded: source)

    def made(**flags):
        known = dict.fromkeys(FLAGS.split()) | {"class_conditional": False, "on_shift": "abstain", "batch": 50}
        return Session(predictor, argparse.Namespace(workdir="run", offline=False, **known | flags))

    return made


def test_sets_and_abstention_of_texts(model, session, capsys):
    some, labels = early.texts(400, seed=5)
    answers = list(session(prediction_sets=0.1, abstain_risk=0.2).answers(some))
    np.testing.assert_array_equal([each.probabilities for each in answers], model[0].probabilities(some))
    assert np.mean([label in each.labels for each, label in zip(answers, labels)]) > 0.85
    assert any(each.answered for each in answers) and not any(each.promise for each in answers)
    assert "shifted" not in capsys.readouterr().err


def test_early_exit_ends_where_the_stream_shifts(model, session, capsys):
    predictor, _ = model
    usual = early.texts(200, seed=5)[0]
    made = session(refine="compute")
    answers = list(made.answers(usual + SHIFTED))
    assert "the stream has shifted: " in (err := capsys.readouterr().err) and "no exit is early any more" in err
    promises = [each.promise for each in answers]
    assert promises[:200] == [None] * 200 and promises[-100:] == ["none"] * 100
    whole = predictor.probabilities(SHIFTED[:100])
    np.testing.assert_allclose([each.probabilities for each in answers[-100:]], whole, atol=1e-6)
    made.close()


def test_a_warning_leaves_early_exit_as_it_is(session, capsys):
    usual = early.texts(100, seed=5)[0]
    plain = [each.probabilities for each in session(refine="compute", on_shift="warn").answers(usual + SHIFTED)]
    assert "the promise no longer holds (--on_shift=warn)" in capsys.readouterr().err
    made = session(refine="compute", on_shift="warn")
    np.testing.assert_allclose(plain, made._refiner.forward(usual + SHIFTED), atol=1e-6)
