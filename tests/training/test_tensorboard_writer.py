"""What a run shows in TensorBoard: read back from real files, unchanged by kills, and without a trace in the run."""

import io
import shutil

import keras
import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
from google.protobuf import text_format
from PIL import Image, ImageFont
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tensorboard.util import tensor_util
from tensorflow.tsl.profiler.protobuf import xplane_pb2

import zoo
from tests.helpers.small import CLASSES, SmallConfig, build, data
from tests.training.test_resume import as_if_killed, final_state
from zoo.config import Config, steps_range
from zoo.engine import devices
from zoo.engine.inspection import Inspection
from zoo.errors import BadInput
from zoo.tensorboard import event_files, feature_vectors, fonts, summaries, task_views
from zoo.tensorboard import images as pictures
from zoo.tensorboard.views import PrecisionRecallInputs
from zoo.terms import Output
from zoo.training import tensorboard_writer
from zoo.training.run import make_engine

CONFIG = SmallConfig(
    epochs=0, steps=8, dropout=0.3, weighted=True, log_every=2, eval_every=3, checkpoint_every=1, keep=100,
    show="evaluations", histograms=4, projector=9,
)  # fmt: skip
NAMES = [f"class {number}" for number in range(CLASSES)]


def shown(config):
    """The small task with pictures, texts and points."""
    made = build(config)

    def forward(model, batch, training):
        return made.forward(model, batch, training) | {"logits": Output(model(batch["x"], training=False))}

    def texts(columns, places):
        return [f"example {place} | with a bar" for place in places]

    def images(columns, places):
        return np.clip(columns["x"][places].reshape(-1, 2, 3) * 50 + 128, 0, 255).astype(np.uint8)

    return made._replace(
        forward=forward,
        visualize=task_views.classifier(NAMES, texts=texts, images=images),
        projector_points=feature_vectors.of_classes(
            made.model, made.evals["eval"].columns, NAMES, texts=texts, images=images
        ),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, zoo.run(shown, CONFIG, folder)


def values(folder, run):
    """Every value of a run's event files by plugin and tag: step -> tensor; what the clock decides is left out."""
    found = {}
    for event in event_files.read(folder / run):
        if event.graph_def:
            found.setdefault(("graph", ""), {})[event.step] = event.graph_def
        for value in event.summary.value:
            if "per_second" in value.tag or "memory" in value.tag or value.tag in ("events", "config"):
                continue
            steps = found.setdefault((value.metadata.plugin_data.plugin_name, value.tag), {})
            assert event.step not in steps, f"{value.tag} stands twice at step {event.step}"
            steps[event.step] = value.tensor.SerializeToString()
    return found


def tensor(folder, run, plugin, tag, step):
    return tensor_util.make_ndarray(TensorProto.FromString(values(folder, run)[plugin, tag][step]))


def test_every_plugin_has_its_steps(whole):
    train, evaluated, tested = (values(whole[0], run) for run in ("train", "eval", "test"))
    steps = {key: list(found) for key, found in (train | evaluated).items()}
    assert steps["scalars", "weight_norm/00_dense"] == [2, 4, 6, 8]
    assert steps["histograms", "weights/00_dense/kernel"] == steps["histograms", "gradients/02_dense/bias"] == [4, 8]
    assert steps["scalars", "gradient_norm/01_dense"] == [4, 8]
    assert steps["images", "confusion"] == steps["text", "worst_errors"] == steps["images", "predictions"] == [3, 6, 8]
    assert steps["pr_curves", "precision_recall/class 0"] == [3, 6, 8]
    assert steps["graph", ""] == steps["graph_keras_model", "keras"] == [0]
    assert list(tested["images", "confusion"]) == list(tested["scalars", "loss"]) == [8]
    assert "--seed=0" in next(
        v.tensor.string_val[0].decode()
        for e in event_files.read(whole[0])
        for v in e.summary.value
        if v.tag == "config"
    )


def test_layers_norms_are_those_of_the_weights(whole):
    state = final_state(whole[0], 8).state
    squares = {name: float(np.square(value).sum()) for name, value in state.items() if name.startswith("model/")}
    first = sum(list(squares.values())[:2]) ** 0.5
    assert tensor(whole[0], "train", "scalars", "weight_norm/00_dense", 8) == pytest.approx(first, rel=1e-5)
    assert whole[1]["train/parameter_norm"] == pytest.approx(sum(squares.values()) ** 0.5, rel=1e-5)


def test_histogram_counts_all_weights(whole):
    kernel = next(v for n, v in final_state(whole[0], 8).state.items() if n.endswith("0000/dense/kernel"))
    buckets = tensor(whole[0], "train", "histograms", "weights/00_dense/kernel", 8)
    assert buckets.shape == (30, 3) and buckets[:, 2].sum() == kernel.size
    assert buckets[0, 0] == kernel.min() and buckets[-1, 1] == kernel.max()


def test_killed_again_and_again_shows_the_same(whole, tmp_path):
    """Everything but what happened, which says so: the first resumption was undone by the second, and did happen."""
    folder = as_if_killed(whole[0], tmp_path, 5)
    zoo.run(shown, CONFIG, folder)
    for path in (folder / "checkpoints").glob("step-*"):
        if int(path.name.removeprefix("step-")) > 3:
            shutil.rmtree(path)
    zoo.run(shown, CONFIG, folder)
    for run in ("train", "eval", "test"):
        assert values(folder, run) == values(whole[0], run)
    lines = {
        event.step: value.tensor.string_val[0].decode().split("\n\n")
        for event in event_files.read(folder)
        for value in event.summary.value
        if value.tag == "events"
    }
    assert lines == {3: ["step 5: resumed at step 5 of 8", "step 3: resumed at step 3 of 8"]}


def test_looking_leaves_no_trace_in_the_run(whole, tmp_path):
    config = CONFIG.replace(show="none", histograms=0, projector=0, graph=False, steps_per_loop=2)
    plain = zoo.run(shown, config, tmp_path)
    one, other = final_state(whole[0], 8).state, final_state(tmp_path, 8).state
    assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
    assert plain["test/loss"] == whole[1]["test/loss"]
    assert {plugin for run in ("train", "eval", "test") for plugin, _ in values(tmp_path, run)} == {
        "scalars", "graph_keras_model",
    }  # fmt: skip


def test_a_long_run_is_shown_seldom(tmp_path):
    config = CONFIG.replace(eval_every=1, checkpoint_every=0, histograms=0, projector=0, graph=False, show="auto")
    zoo.run(shown, config.replace(steps=6), tmp_path)
    assert list(values(tmp_path, "eval")["images", "confusion"]) == [1, 4, 6]


@pytest.mark.parametrize("changes", [{"cpu_devices": 2, "accumulate": 2}, {"compile": "none"}])
def test_gradient_is_the_one_that_the_step_takes(changes):
    """Of SGD without momentum the change of the weights is the gradient times the rate."""
    config = CONFIG.replace(optimizer="sgd", learning_rate=0.5, l2=0.01, **changes)
    strategy = devices.strategy(config.strategy, config.cpu_devices)
    with strategy.scope():
        keras.utils.set_random_seed(0)
        experiment = build(config)
    engine = make_engine(strategy, config, experiment, 8)
    looked = Inspection(engine)
    before, gradients = looked.weights(), looked.gradients(experiment.train, 2)
    engine.train(experiment.train, 2, 1)
    after = looked.weights()
    assert gradients.keys() == before.keys() and len(gradients) == 6
    for name, gradient in gradients.items():
        np.testing.assert_allclose(before[name] - after[name], 0.5 * gradient, atol=2e-6)


def test_looking_at_gradients_leaves_keras_dropout_alone():
    strategy = devices.strategy("cpu")
    with strategy.scope():
        keras.utils.set_random_seed(0)
        experiment = build(CONFIG)._replace(
            model=keras.Sequential([keras.Input((6,)), keras.layers.Dropout(0.5), keras.layers.Dense(CLASSES)])
        )
    engine = make_engine(strategy, CONFIG, experiment, 8)
    before = engine.state()
    Inspection(engine).gradients(experiment.train, 0)
    after = engine.state()
    assert any(name.startswith("seed/") for name in before)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_graph_names_layers_and_columns(whole):
    found = tf.compat.v1.GraphDef.FromString(values(whole[0], "train")["graph", ""][0])
    names = {node.name for node in found.node}
    assert {"x", "y", "weight"} <= names
    assert any(name.startswith("forward/sequential") and "dense" in name for name in names)
    assert any(name.startswith("gradient_tape/") for name in names)


def test_precision_and_recall_are_scikit_learns():
    draw = np.random.default_rng(0)
    labels, scores, weights = draw.random(300) < 0.4, draw.random(300), draw.random(300)
    found = tensor_util.make_ndarray(
        summaries.precision_recall("curve", PrecisionRecallInputs(labels, scores, weights)).tensor
    )
    precision, recall = found[4], found[5]
    for place in (10, 50, 90):
        given = scores >= place / 100
        assert precision[place] == pytest.approx(sklearn.metrics.precision_score(labels, given, sample_weight=weights))
        assert recall[place] == pytest.approx(sklearn.metrics.recall_score(labels, given, sample_weight=weights))


def test_names_in_any_script_are_drawn():
    latin, chinese = fonts.font_for("cat, dog", 12), fonts.font_for("猫狗 cat", 12)
    assert latin.getname() == ImageFont.load_default(12).getname()
    if chinese.getname() == latin.getname():
        pytest.skip("this machine has no font for Chinese")
    marks = {bytes(chinese.getmask(character)) for character in "猫狗c\U0010ffff"}
    assert len(marks) == 4
    assert fonts.font_for("猫狗 cat\U0010ffff", 12).getname() == chinese.getname()


def test_picture_of_the_matrix_is_a_readable_file(whole):
    width, height, png = tensor(whole[0], "eval", "images", "confusion", 8)
    image = Image.open(io.BytesIO(png))
    assert image.size == (int(width), int(height)) == (350, image.size[1])
    # White paper, and cells as dark as their share of the class.
    matrix = pictures.confusion(np.array([[100, 0], [50, 50]]), ["a", "b"])
    colours = {tuple(colour) for colour in matrix.reshape(-1, 3)}
    assert {(255, 255, 255), (8, 48, 107)} <= colours
    assert pictures.confusion(np.eye(100), [str(number) for number in range(100)]).shape == (800, 800, 3)


def test_worst_errors_are_the_worst(whole):
    text = tensor(whole[0], "eval", "text", "worst_errors", 8).item().decode()
    rows = [line.split(" | ") for line in text.splitlines()[2:]]
    assert rows and all(row[0].removeprefix("| ") != row[1] for row in rows)
    assert all("with a bar" in row[-1] and "\\|" in row[-1] for row in (line for line in rows))


def test_looks_of_tags_gaps_texts_and_values():
    def tokens(ids):
        return [f"w{id}" for id in ids if id]

    columns = {"tokens": np.array([[1, 2, 3], [4, 5, 0]]), "tags": np.array([[0, 1, -1], [1, -1, -1]])}
    tags = task_views.tagger(["O", "B"], -1, tokens)({"predicted": np.array([[0, 0, 1], [1, 0, 0]])}, columns)
    assert "| 1 | w1 w2 **[B → O]** w3 |" in tags.texts["worst_errors"] and "w4" not in tags.texts["worst_errors"]
    hidden = {"places": np.array([[1, -1], [0, 1]]), "guessed": np.array([[9, 7], [4, 6]])}
    gaps = task_views.gaps(tokens)(hidden, columns).texts["gaps"].splitlines()
    assert gaps[2:] == ["| 0 of 1 | w1 **w2 [w9]** w3 |", "| 1 of 2 | **w4** **w5 [w6]** |"]
    decoded = task_views.decoded(lambda row: " ".join(tokens(row)))
    worst = task_views.language(decoded, lambda: "    written")({"row_loss": np.array([1.0, 2.5])}, columns).texts
    assert worst["worst_errors"].splitlines()[2:] == ["| 2.500 | w4 w5 |", "| 1.000 | w1 w2 w3 |"]
    assert worst["sample"] == "    written"
    outputs = {"logits": np.array([[0.0], [1.0]])}
    off = task_views.regression(decoded, 2.0, 1.0)(outputs, columns | {"y": np.array([0.0, 0.0])}).texts["worst_errors"]
    assert off.splitlines()[2] == "| 1 | 3 | w4 w5 |"


def test_projector_reads_its_files(whole):
    folder = whole[0] / "eval"
    (embedding,) = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig()).embeddings
    vectors = np.loadtxt(folder / embedding.tensor_path, delimiter="\t")
    assert vectors.shape == tuple(embedding.tensor_shape) == (9, 5)
    header, *labels = [line.split("\t") for line in (folder / embedding.metadata_path).read_text().splitlines()]
    assert header == ["class", "predicted", "text"] and len(labels) == 9
    assert [row[0] for row in labels] == [NAMES[data(11)["y"][place]] for place in feature_vectors.spread(11, 9)]
    width, height = embedding.sprite.single_image_dim
    with Image.open(folder / embedding.sprite.image_path) as sheet:
        assert sheet.size == (3 * width, 3 * height)
    # What the last layer gets: its product with that layer's weights decides what is predicted.
    state = final_state(whole[0], 8).state
    kernel, bias = (state[f"model/{number:04d}/dense/{part}"] for number, part in ((4, "kernel"), (5, "bias")))
    assert [NAMES[best] for best in (vectors @ kernel + bias).argmax(axis=1)] == [row[1] for row in labels]


def test_profile_holds_the_steps_of_its_window(tmp_path):
    config = CONFIG.replace(profile="3:6", show="none", histograms=0, projector=0, graph=False, checkpoint_every=0)
    zoo.run(build, config.replace(log_every=100, eval_every=100), tmp_path)
    (path,) = (tmp_path / "train" / "plugins" / "profile").glob("*/*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(path.read_bytes())
    steps = set()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                if plane.event_metadata[event.metadata_id].name == "train":
                    named = {plane.stat_metadata[stat.metadata_id].name: stat for stat in event.stats}
                    steps.add(named["step_num"].int64_value or named["step_num"].uint64_value)
    assert steps and steps <= {3, 4, 5} and 3 in steps


@pytest.mark.parametrize("text", ["5", "5:", ":5", "9:5", "5:5", "a:b", "-1:5"])
def test_profile_that_is_no_window(text):
    with pytest.raises(BadInput, match=r"--profile is .*: expected FIRST:LAST"):
        Config(steps=1, profile=text)
    assert steps_range("") is None


def test_memory_is_that_of_the_process():
    before = tensorboard_writer.memory()["memory_mb/process"]
    held = np.ones(64 << 20, np.uint8)
    assert 60 < tensorboard_writer.memory()["memory_mb/process"] - before < 80 and held.sum() == 64 << 20
