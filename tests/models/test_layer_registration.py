"""`import zoo` is enough for `keras.models.load_model` to read the model of any run, whenever Keras is imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras

import zoo
from zoo import layer_registration
from zoo.predict.predictors import loading

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests" / "fixtures" / "run_0.1.0"
MODELS = sorted(RECORDED.glob("*/model.keras"))
LOADING = """
import importlib.util, json, sys
import zoo
before = [name for name in ("keras", "tensorflow", "numpy") if name in sys.modules]
# Asked for and not imported, as TensorFlow itself does.
importlib.util.find_spec("keras")
import tensorflow
# A module of layers comes before Keras, and brings it.
from zoo.models import layers
import keras
counts = [keras.models.load_model(path).count_params() for path in sys.argv[1:]]
print(json.dumps([before, counts, type(keras.__spec__.loader).__name__, len(sys.meta_path)]))
"""


def test_zoo_before_keras():
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-c", LOADING, *map(str, MODELS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    before, counts, loader, _ = json.loads(done.stdout.splitlines()[-1])
    assert not before, "import zoo is quick"
    assert counts == [loading.read_model(path).count_params() for path in MODELS] and len(counts) == 4
    assert loader == "SourceFileLoader", "Keras keeps its own loader"


def test_keras_before_zoo():
    """Here Keras is imported first; every layer of the zoo that Keras can save is registered by the modules named."""
    assert zoo.layer_registration is layer_registration
    for path in MODELS:
        assert keras.models.load_model(path).count_params()
    layers = set()
    for name in layer_registration.MODULES:
        module = sys.modules[name]
        layers |= {each for each in vars(module).values() if isinstance(each, type) and each.__module__ == name}
    saved = [each for each in layers if issubclass(each, keras.layers.Layer) and "get_config" in vars(each)]
    assert len(saved) >= 9
    for layer in saved:
        registered = keras.saving.get_registered_name(layer)
        assert registered.startswith("zoo>"), layer
        assert keras.saving.get_registered_object(registered) is layer


def test_names_of_saved_models_stay():
    """A class may get a better name; what saved models call it stays."""
    names = {"Seen", "MeanOfSeen", "AtPlaces", "First", "Embedding", "Block", "Norm", "Bias", "Dropout", "BatchNorm"}
    names |= {"Lengths", "TokenEmbedding", "VariationalDropout", "Lstm", "Guesses", "Pool", "gelu_new"}
    missing = [name for name in names if keras.saving.get_registered_object(f"zoo>{name}") is None]
    assert not missing
