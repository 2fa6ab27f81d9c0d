"""What parameters are learned by at prediction time, views of images, and the labelled examples that may forbid it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import early
from tests.helpers.digits import batches, bright, error, run, unseen
from zoo.adaptation import labelled_examples, plans
from zoo.adaptation import refiner as multi_step
from zoo.adaptation.refiner import Refiner, refine
from zoo.adaptation.stages import statistics, views
from zoo.adaptation.stages.cotta import COTTA
from zoo.adaptation.stages.eata import EATA
from zoo.adaptation.stages.losses import EntropyLoss
from zoo.adaptation.stages.parameters import LEARNERS, Parameters
from zoo.adaptation.stages.sar import SAR
from zoo.adaptation.stages.tent import TENT
from zoo.cli import main, refine_flags
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
def noisy():
    x, y = unseen()
    return np.clip(x + np.random.default_rng(0).normal(0, 70, x.shape), 0, 255).astype(np.uint8), y


def begun(trained, **settings):
    """A stage on a copy of its own."""
    _, found, known = trained
    copy, stage = copied(found), Parameters(**settings)
    stage.begin(copy, known)
    return copy, stage


def seen(copy, x):
    return multi_step.StreamContext(x, x, copy.logits(x), copy.logits, False)


def scales(model):
    return [variable.numpy() for variable in model.trainable_variables]


@pytest.mark.parametrize("name", LEARNERS)
def test_each_learner_does_no_harm_and_is_the_same_again(trained, noisy, name):
    _, found, known = trained
    x, y = noisy
    before = digest(found.model)
    fitted = refine(found, batches(x), [statistics.BatchStatistics()], known)
    refiner = Refiner(found, [statistics.BatchStatistics(), Parameters(LEARNERS[name], steps=3)], known)
    answers = []
    for _ in range(2):
        answers.append(np.concatenate([refiner.answer(batch) for batch in batches(x)]))
        refiner.reset()
    assert digest(found.model) == before
    assert float((answers[0].argmax(axis=1) != y).mean()) <= error(fitted, y) + 0.01
    np.testing.assert_array_equal(*answers)


def test_what_was_learned_outlives_the_next_fit_of_the_statistics(trained, noisy):
    _, found, known = trained
    plan = [statistics.BatchStatistics(), Parameters(TENT._replace(learning_rate=0.01))]
    refiner = Refiner(found, plan, known)
    first = plan[0].state()
    plan[1].propose(seen(refiner._predictor, noisy[0][:200]))
    learned = plan[1].state()[0]
    plan[0].load(first)
    plan[0].propose(seen(refiner._predictor, noisy[0][200:400]))
    assert all(np.array_equal(a, b) for a, b in zip(learned, plan[1].state()[0]))
    assert any(not np.array_equal(a, b) for a, b in zip(learned, plan[1]._first[0]))


def test_the_sharpness_aware_gradient_is_that_of_the_moved_weights(trained, noisy):
    learner = EntropyLoss("sgd", 0.1, radius=0.05)
    copy, stage = begun(trained, learner=learner, memory=100)
    x, model = noisy[0][:100], copied(trained[1]).model
    for layer, other in zip(model.layers, copy.model.layers):
        layer.trainable = other.trainable
    variables = model.trainable_variables
    first = scales(model)

    def slope(kept=1.0):
        with tf.GradientTape() as tape:
            logs = tf.nn.log_softmax(model(x, training=False))
            entropy = -tf.reduce_sum(tf.exp(logs) * logs, axis=1)
            mask = tf.cast(entropy < 0.4 * np.log(10), tf.float32) * kept
            loss = tf.reduce_sum(entropy * mask) / tf.reduce_sum(mask)
        return [each.numpy() for each in tape.gradient(loss, [v.value for v in variables])], mask

    up, kept = slope()
    norm = np.sqrt(sum(np.sum(each**2) for each in up))
    for variable, value, each in zip(variables, first, up):
        variable.assign(value + 0.05 * each / norm)
    expected, _ = slope(kept)
    assert np.sqrt(sum(np.sum(each**2) for each in expected)) < 1, "nothing is clipped"
    stage.propose(seen(copy, x))
    for value, each, now in zip(first, expected, scales(copy.model)):
        np.testing.assert_allclose(now, value - 0.1 * each, atol=1e-6)
    assert max(np.abs(a - b).max() for a, b in zip(up, expected)) > 1e-4, "the two gradients differ"


def test_answers_like_those_before_teach_nothing_new(trained):
    x, y = unseen()
    same = x[y == 1][:40]
    copy, stage = begun(trained, learner=EATA, memory=40)
    assert stage.propose(seen(copy, same)) != "no example is confident enough"
    assert stage.propose(seen(copy, same)) == "no example is confident enough"


def test_the_teacher_is_the_moving_average_of_the_learner(trained, noisy):
    teacher = COTTA._replace(decay=0.75, restored=0.0, learning_rate=0.01)
    copy, stage = begun(trained, learner=teacher, memory=100)
    first = scales(copy.model)
    stage.propose(seen(copy, noisy[0][:100]))
    for value, own, now in zip(first, scales(stage._model), scales(copy.model)):
        assert np.abs(own - value).max() > 1e-3
        np.testing.assert_allclose(now, 0.75 * value + 0.25 * own, atol=1e-6)


def test_the_learner_goes_back_to_the_source_in_part(trained, noisy):
    copy, stage = begun(trained, learner=COTTA._replace(restored=1.0), memory=100)
    stage.propose(seen(copy, noisy[0][:100]))
    assert all(np.array_equal(a, b) for a, b in zip(stage._first[0], scales(stage._model)))


def test_all_is_forgotten_after_so_many_steps(trained, noisy):
    copy, stage = begun(trained, steps=2, memory=100, reset_every=4)
    found = []
    for _ in range(3):
        stage.propose(seen(copy, noisy[0][:100]))
        found.append(scales(copy.model))
    # The third batch begins anew, and learns what the first did.
    assert all(np.array_equal(a, b) for a, b in zip(found[0], found[2]))
    assert not any(np.array_equal(a, b) for a, b in zip(found[0], found[1]))


def test_a_collapsed_model_is_forgotten(trained, noisy):
    copy, stage = begun(trained, learner=SAR._replace(floor=10.0), memory=100)
    first = scales(copy.model)
    stage.propose(seen(copy, noisy[0][:100]))
    assert all(np.array_equal(a, b) for a, b in zip(first, scales(copy.model)))


def test_a_mirrored_digit_is_none(trained):
    _, found, known = trained
    allowed = views.allowed(found, known)
    assert allowed[0] == views.View() and len(allowed) > 1 and not any(view.mirrored for view in allowed)
    np.testing.assert_array_equal(views.View(mirrored=True).apply(known.examples[:5]), known.examples[:5, :, ::-1])


def test_views_are_averaged_by_probabilities(trained, noisy):
    _, found, known = trained
    stage, x = views.Views(), noisy[0][:50]
    stage.begin(copied(found), known)
    np.testing.assert_array_equal(stage.logits(x, found.logits), found.logits(x))
    assert stage.propose(seen(found, x)) == ""
    expected = np.mean([class_probabilities(found.logits(view.apply(x))) for view in stage._views], axis=0)
    np.testing.assert_allclose(class_probabilities(stage.logits(x, found.logits)), expected, atol=1e-12)


def test_views_are_of_images(trained):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    with pytest.raises(BadInput, match="--refine=views: the model takes no images"):
        views.Views().begin(array_classifier.ArrayClassifier(model, tuple("abc")), trained[2])


def test_labelled_examples_may_forbid_what_the_guards_allow(trained, tmp_path, capsys):
    folder, found, _ = trained
    x, y = unseen()
    np.save(tmp_path / "bright.npy", bright(x))
    np.savez(tmp_path / "right.npz", x=bright(x[:200]), y=y[:200])
    # Whoever says that the unchanged answers are right forbids every other.
    np.savez(tmp_path / "wrong.npz", x=bright(x[:200]), y=found.logits(bright(x[:200])).argmax(axis=1))
    for name, kept in (("right", "kept 5 of 5"), ("wrong", "kept 0 of 5")):
        flags = ["--refine=statistics", "--batch=100", f"--labelled={tmp_path / name}.npz", "--json"]
        assert main.main(["predict", str(folder), str(tmp_path / "bright.npy"), *flags]) == 0
        assert f"zoo: statistics: {kept}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"x": np.zeros((3, 28, 28), np.uint8)}, "has x, not y; expected x and y"),
        ({"x": np.zeros((3, 9, 9), np.uint8), "y": np.zeros(3, int)}, "x has shape"),
        ({"x": np.zeros((3, 28, 28), np.uint8), "y": np.array([0, 1, 10])}, "label 10; expected 0 to 9"),
        ({"x": np.zeros((3, 28, 28), np.uint8), "y": np.zeros(2, int)}, "expected one label for each example"),
        ({"x": np.zeros((0, 28, 28), np.uint8), "y": np.zeros(0, int)}, "has no examples"),
        ({"x": np.full((3, 28, 28), 0.5), "y": np.zeros(3, int)}, "expected whole numbers from 0 to 255"),
    ],
)
def test_labelled_examples_that_do_not_suit_are_refused(trained, tmp_path, columns, says):
    np.savez(tmp_path / "few.npz", **columns)
    with pytest.raises(BadInput, match=says) as raised:
        labelled_examples.read(tmp_path / "few.npz", trained[0], trained[1])
    assert str(raised.value).startswith("--labelled: ") and "\n" not in str(raised.value)


def test_labelled_texts(trained, tmp_path):
    found = early.reader()
    (tmp_path / "few.csv").write_text("text,label\na great film,good\nso dull,bad\n")
    texts, labels = labelled_examples.read(tmp_path / "few.csv", trained[0], found)
    assert texts == ["a great film", "so dull"] and labels.tolist() == [1, 0]
    (tmp_path / "other.csv").write_text("text,label\na great film,fair\n")
    (tmp_path / "none.csv").write_text("text\na great film\n")
    (tmp_path / "lines.html").write_text("a great film\n")
    for name, says in (
        ("other.csv", "line 2: 'label' is 'fair'; expected a class of the model: bad, good"),
        ("none.csv", "has no column 'label'"),
        ("lines.html", "is not a file of labelled texts: expected .csv, .tsv, .txt"),
    ):
        with pytest.raises(BadInput, match=says):
            labelled_examples.read(tmp_path / name, trained[0], found)


def test_plans_name_the_learner(trained):
    folder, found, _ = trained
    plan = plans.stages(["perturbation", "views", "parameters"], found, folder, "sar")
    assert [stage.name for stage in plan] == ["parameters", "views", "perturbation"]
    assert plan[0]._learner == SAR and tuple(LEARNERS) == refine_flags.LEARNERS


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--labelled=x.npz"], "--labelled is an option of test-time adaptation: add --refine"),
        (["--refine=auto", "--labelled=x.npz"], "x.npz: expected a .npz file with x, y"),
        (["--refine=auto", "--learner=sar"], "--learner=sar is an option of parameters"),
    ],
)
def test_bad_flags_are_one_line(trained, tmp_path, capsys, flags, says):
    np.save(tmp_path / "one.npy", np.zeros((1, 28, 28), np.uint8))
    assert main.main(["predict", str(trained[0]), str(tmp_path / "one.npy"), *flags]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("zoo: ")]
    assert len(lines) == 1 and says in lines[0]


def test_group_normalisations_learn_and_nothing_else():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GroupNormalization(4)(keras.layers.Conv2D(8, 3)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    found = array_classifier.ArrayClassifier(model, ("a", "b"))
    x, y = np.random.default_rng(0).uniform(0, 1, (20, 8, 8, 3)).astype(np.float32), np.arange(20) % 2
    Parameters(TENT).begin(found, held_out.HeldOut(x, y, found.logits(x)))
    assert [variable.path.split("/")[-1] for variable in model.trainable_variables] == ["gamma", "beta"]
