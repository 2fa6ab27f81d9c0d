"""A Keras 3 / TensorFlow model zoo whose training run is a function of its config.

Names are imported where they are first used: TensorFlow takes seconds to import and the command line need not wait.
"""

import importlib
import os

from zoo.layer_registration import register_with_keras

__version__ = "0.1.0"

# Keras reads it once, on import; the engine is a tf.GradientTape engine.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# Hides part of TensorFlow's start-up notices, which say nothing that a user could act on; errors still show.
# Several workers: one that is lost makes TensorFlow write pages, around the one line that says what to do.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3" if "TF_CONFIG" in os.environ else "2")

_PLACES = {
    "run": "zoo.training.run",
    "fit": "zoo.training.fit",
    "main": "zoo.training.main",
    "Config": "zoo.config",
    "setting": "zoo.config",
    "Experiment": "zoo.experiment",
    "Term": "zoo.terms",
    "Output": "zoo.terms",
    "Update": "zoo.engine.updates",
    "Batches": "zoo.data.batches",
    "Dropout": "zoo.models.layers",
    "load": "zoo.predict.predictors.loading",
    "refine": "zoo.adaptation.refiner",
}
__all__ = list(_PLACES)


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


register_with_keras()
