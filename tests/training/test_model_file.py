"""Models that Keras cannot save, or could not load: said before the first step, and their weights are kept."""

import json

import keras
import pytest
from safetensors.numpy import load_file

import zoo
from tests.helpers import small
from tests.helpers.small import CLASSES, WIDTH, SmallConfig
from zoo.training import model_file

CONFIG = SmallConfig(epochs=0, steps=2, graph=False, compile="none")


class Unsaved(keras.Model):
    """No get_config, and an argument that Keras cannot guess."""

    def __init__(self, made_with):
        super().__init__()
        self.logits = keras.layers.Dense(CLASSES)

    def build(self, shape):
        self.logits.build(shape)

    def call(self, x, training=False):
        return self.logits(x)


class Unknown(keras.layers.Layer):
    def call(self, x):
        return 2 * x


def double(x):
    return 2 * x


def unsaved():
    model = Unsaved(object())
    model.build((None, WIDTH))
    return model


def around(layer):
    return keras.Sequential([keras.Input((WIDTH,)), layer, keras.layers.Dense(CLASSES)])


MODELS = {
    "no get_config": (unsaved, "the model cannot be saved as model.keras (NotImplementedError: Object Unsaved was"),
    "lambda": (lambda: around(keras.layers.Lambda(lambda x: x)), "Keras reads no Python lambda from a file"),
    "activation": (lambda: around(keras.layers.Dense(2, activation=lambda x: x)), "Keras reads no Python lambda"),
    "layer": (lambda: around(Unknown()), "Keras does not know Unknown; decorate it"),
    "function": (lambda: around(keras.layers.Dense(2, activation=double)), "Keras does not know double; decorate it"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_it_is_known_at_the_start(kind):
    make, said = MODELS[kind]
    assert said in model_file.problem(make())


def test_no_false_alarm():
    layers = [
        keras.Input((WIDTH,)),
        keras.layers.Dense(3, "gelu"),
        zoo.Dropout(0.1),
        keras.layers.Lambda(keras.ops.relu),
    ]
    assert model_file.problem(keras.Sequential(layers)) is None
    assert model_file.problem(small.build(SmallConfig(norm="batch", dropout=0.2)).model) is None


@pytest.mark.parametrize("kind", ["no get_config", "lambda"])
@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_the_weights_and_the_result_are_kept(tmp_path, capsys, kind):
    make, said = MODELS[kind]

    def build(config):
        return small.build(config)._replace(model=make())

    result = zoo.run(build, CONFIG, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    lines = capsys.readouterr().err.splitlines()
    told = [number for number, line in enumerate(lines) if said in line]
    first_step = next(number for number, line in enumerate(lines) if line.startswith("step "))
    assert len(told) == 2 and told[0] < first_step < told[1]
    kept = tmp_path / "weights.safetensors"
    assert lines[told[1]].endswith(f"the weights are in {kept}")
    assert (tmp_path / "model.keras").exists() == (kind == "lambda")
    assert all(name.startswith("model/") for name in load_file(kept))
    start = CONFIG.replace(init_from=str(kept), learning_rate=0.0, steps=1)
    assert zoo.run(build, start, tmp_path / "from")["test/loss"] == pytest.approx(result["test/loss"], rel=1e-5)
