"""Loads a saved model as anybody would, without the zoo, and compares its answers with those in the zoo.

    python benchmarks/conformance/plain_keras.py runs/conformance keras_hub keras_hub-Bert ...

Prints a line of JSON for each model: the largest difference of an answer, or the reason why there is none.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np


def difference(path: Path) -> float:
    model = keras.models.load_model(f"{path}.keras")
    with np.load(f"{path}.npz") as data:
        given = {name: data[name] for name in data.files}
    expected = given.pop("answers")
    found = model(given if isinstance(model.input, dict) else next(iter(given.values())), training=False)
    return float(np.abs(np.asarray(found) - expected).max())


def main(folder: str, library: str, *names: str) -> None:
    if library != "keras.applications":
        __import__(library)
    for name in names:
        try:
            result = difference(Path(folder) / name)
        except Exception as error:
            result = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        assert "zoo" not in sys.modules
        print(json.dumps([name, result]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
