"""Early exit on small encoders: nothing is lost that was promised, and the later layers are not computed."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from tests.helpers import early
from zoo.adaptation.refiner import refine
from zoo.adaptation.stages.compute import Compute
from zoo.adaptation.stages.output import Temperature
from zoo.errors import BadInput, NonFinite
from zoo.metrics import temperature_scaling
from zoo.metrics.logits import class_probabilities, two_class_logits
from zoo.predict.early_exit import exit_heads, layerwise_encoder, transformer_exit
from zoo.predict.early_exit.transformer_exit import TransformerExit
from zoo.predict.predictors.array_classifier import ArrayClassifier
from zoo.predict.predictors.cloning import digest


@pytest.fixture(scope="module")
def made():
    """A predictor of four layers, what is known of its source, its exits, and texts it has not seen."""
    found = early.encoder()
    learned = exit_heads.fit(found, *early.texts(300, seed=3))
    return found, early.source(found), learned, early.texts(275, seed=4)[0]


@pytest.fixture(scope="module")
def exiting(made):
    return TransformerExit(*made[:3], risk=0.1)


@pytest.mark.parametrize("rule", ["confident", "patient"])
def test_where_nothing_may_leave_it_is_the_plain_forward_pass(made, exiting, rule):
    found, _, _, texts = made
    exiting.choose(1e-6, rule=rule)
    answers = exiting.answers(texts)
    np.testing.assert_array_equal(answers.logits, two_class_logits(found.logits(texts)))
    *_, logits = layerwise_encoder.LayerwiseEncoder(found.model).all_layers(found, texts)
    np.testing.assert_array_equal(logits, found.logits(texts))
    assert set(answers.depths) == {4} and answers.logits.dtype == np.float32
    assert exiting.logits([]).shape == (0, 2)


def test_in_bfloat16_too():
    found = early.encoder(layers=2, norm_first=True, pooling="first", policy="mixed_bfloat16")
    texts, labels = early.texts(40, seed=3)
    exiting = TransformerExit(found, early.source(found, 40), exit_heads.fit(found, texts, labels), risk=1e-6)
    np.testing.assert_array_equal(exiting.logits(texts), two_class_logits(found.logits(texts)))
    *_, logits = layerwise_encoder.LayerwiseEncoder(found.model).all_layers(found, texts)
    # Three digits are all that bfloat16 has.
    np.testing.assert_allclose(logits, found.logits(texts), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("rule", ["confident", "patient"])
def test_layers_are_left_out_and_answers_are_those_of_the_exits(made, exiting, rule, monkeypatch):
    """Against all layers of all texts, calibrated and stopped in NumPy."""
    found, _, learned, texts = made
    threshold = 0.8 if rule == "confident" else 1.0
    exiting.stopping = dataclasses.replace(exiting.stopping, rule=rule, threshold=threshold)
    rows = {}
    for name in ("first_layer", "inner_layer", "last_layer"):
        call = getattr(layerwise_encoder.LayerwiseEncoder, name)

        def counted(self, *given, _call=call, _name=name):
            number = {"first_layer": 0, "last_layer": 3}.get(_name, given[0])
            inputs = given[0][0] if _name == "first_layer" else given[-1].x
            rows[number] = rows.get(number, 0) + inputs.shape[0]
            return _call(self, *given)

        monkeypatch.setattr(layerwise_encoder.LayerwiseEncoder, name, counted)
    answers = exiting.answers(texts)
    monkeypatch.undo()
    reach = [int((answers.depths > number).sum()) for number in range(4)]
    assert 0 < reach[3] < reach[2] and reach[0] == 275
    # Two batches, the second one filled up, while nobody has left; then what is left, and what fills the last part up.
    for number in range(4):
        whole = reach[number] == 275
        assert rows[number] == 512 if whole else reach[number] <= rows[number] < reach[number] + 64
    pooled, _, logits = layerwise_encoder.LayerwiseEncoder(found.model).all_layers(found, texts)
    calibrated = [
        one.logits(learned.logits(k, each)) for k, (one, each) in enumerate(zip(exiting._calibrations, pooled))
    ]
    calibrated = np.stack([*calibrated, two_class_logits(logits)])
    for text, (answer, depth) in enumerate(zip(*answers)):
        np.testing.assert_allclose(answer, calibrated[depth - 1, text], rtol=2e-4, atol=2e-4)
        assert depth == expected(calibrated[:, text], rule, exiting.stopping.threshold)


def expected(logits, rule, threshold):
    """Layers until the first that is sure, or the first of so many that agree."""
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    streak, before = 0, None
    for layer, some in enumerate(probabilities[:-1]):
        streak = streak + 1 if some.argmax() == before else 1
        before = some.argmax()
        if (some.max() if rule == "confident" else streak) > threshold:
            return layer + 1
    return len(logits)


def test_depth_falls_with_the_risk_and_the_promise_holds(made, exiting):
    found, _, _, _ = made
    texts, _ = early.texts(600, seed=5)
    full, depths = two_class_logits(found.logits(texts)).argmax(axis=1), []
    for risk in (0.02, 0.1, 0.5):
        exiting.choose(risk)
        answers = exiting.answers(texts)
        depths.append(answers.depths.mean())
        # Three standard deviations of 600 draws are granted to chance.
        assert (answers.logits.argmax(axis=1) != full).mean() <= risk + 3 * np.sqrt(risk / 600)
    assert 4 > depths[0] > depths[1] > depths[2] == 1


def test_neighbours_and_order_change_no_answer(made, exiting):
    texts = made[3]
    exiting.choose(0.1)
    together, order = exiting.answers(texts), np.random.default_rng(0).permutation(len(texts))
    turned = exiting.answers([texts[index] for index in order])
    np.testing.assert_array_equal(turned.depths, together.depths[order])
    np.testing.assert_allclose(turned.logits, together.logits[order], rtol=2e-4, atol=2e-4)
    for index in order[:5]:
        alone = exiting.answers([texts[index]])
        assert alone.depths[0] == together.depths[index]
        np.testing.assert_allclose(alone.logits[0], together.logits[index], rtol=2e-4, atol=2e-4)


def test_the_model_stays_as_it_is_and_what_was_saved_is_told(made):
    found, known, learned, texts = made
    before = digest(found.model)
    exiting = TransformerExit(found, known, learned, risk=0.1)
    assert exiting.saved == (0.0, 4, 0)
    depths = np.concatenate([exiting.answers(part).depths for part in (texts[:16], texts[16:17])])
    assert exiting.saved == (pytest.approx(depths.mean()), 4, 17)
    assert digest(found.model) == before == learned.model


def test_exits_are_kept_beside_a_run(made, tmp_path):
    found, _, learned, _ = made
    with pytest.raises(BadInput, match=r"has no exits\.json"):
        exit_heads.load(tmp_path, found)
    learned.save(tmp_path)
    again = exit_heads.load_or_fit(tmp_path, found)
    np.testing.assert_array_equal(again.weights, learned.weights)
    np.testing.assert_array_equal(again.biases, learned.biases)
    assert (again.model, again.examples) == (learned.model, 300)
    written = json.loads((tmp_path / exit_heads.NAME).read_text())
    for change, message in (
        ({"model": "other"}, "belongs to another model"),
        ({"biases": [[0.0]]}, "is damaged"),
        ({"weights": "many"}, "is damaged"),
    ):
        (tmp_path / exit_heads.NAME).write_text(json.dumps(written | change))
        with pytest.raises(BadInput, match=message) as error:
            exit_heads.load(tmp_path, found)
        assert "\n" not in str(error.value)


def test_three_classes_one_of_which_was_not_learned():
    found = early.encoder(classes=3, layers=2)
    texts, labels = early.texts(200, classes=3, seed=3)
    two = labels < 2
    learned = exit_heads.fit(found, [text for text, keep in zip(texts, two) if keep], labels[two])
    assert learned.weights.shape == (1, 16, 3)
    pooled, *_ = layerwise_encoder.LayerwiseEncoder(found.model).all_layers(found, texts)
    given = temperature_scaling.identity(3).apply(learned.logits(0, pooled[0]))
    assert given[:, 2].max() < 1e-6
    assert (given.argmax(axis=1) == labels)[two].mean() > 0.7


def test_refused():
    reader = early.reader()
    with pytest.raises(BadInput, match=r"for classifiers by a Transformer encoder: the model has .*Lstm"):
        layerwise_encoder.LayerwiseEncoder(reader.model)
    flat = early.encoder(layers=1)
    with pytest.raises(BadInput, match="1 layer, and nothing to leave out"):
        exit_heads.fit(flat, ["a", "b"], np.array([0, 1]))
    with pytest.raises(BadInput, match="3 training texts of one class"):
        exit_heads.fit(early.encoder(layers=2), ["a", "b", "c"], np.zeros(3, int))
    with pytest.raises(NonFinite, match="layer 0 is not finite"):
        exit_heads.ExitHeads(np.ones((1, 2, 2)), np.zeros((1, 2)), "", 1).logits(0, np.array([[np.nan, 1.0]]))


@pytest.mark.parametrize(
    ("rows", "sizes"), [(1, [1]), (2, [16]), (17, [16, 16]), (33, [64]), (65, [64, 1]), (154, [64, 64, 16, 16])]
)
def test_sizes_of_what_is_left(rows, sizes):
    assert transformer_exit._sizes(rows) == sizes


def test_as_a_stage_it_answers_a_stream(made, monkeypatch):
    found, known, learned, texts = made
    monkeypatch.setattr(exit_heads, "load_or_fit", lambda workdir, predictor: learned)
    alone = TransformerExit(found, known, learned, risk=0.1)
    refined = refine(found, [texts[:100], texts[100:]], [Compute("run", risk=0.1), Temperature()], known)
    stage = Temperature()
    stage.begin(found, known._replace(logits=alone.logits(known.examples)))
    expected = class_probabilities(stage.logits(texts, alone.logits))
    np.testing.assert_allclose(refined.probabilities, expected, atol=1e-5)
    assert "so far" in refined.trace[-2].reason and refined.trace[-2].stage == "compute"


def test_a_stage_of_pictures_is_refused(made):
    inputs = keras.Input((4,))
    other = ArrayClassifier(keras.Model(inputs, keras.layers.Dense(2)(inputs)), ("a", "b"))
    with pytest.raises(BadInput, match="--refine=compute: expected an encoder or an LSTM"):
        Compute("run").begin(other, made[1])
