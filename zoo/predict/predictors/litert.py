"""LiteRT for single examples, where it is faster than the compiled model and agrees with it.

A call into TensorFlow costs more than a small network's arithmetic. Conversion to LiteRT takes seconds, which a few
predictions never earn back: so it is done only on request (`runtime="litert"`), cached, and used from then on
(`runtime="auto"`). The first real examples are computed by both, and the decision for or against LiteRT is cached, too.
"""

import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from zoo import files
from zoo.data import cache
from zoo.errors import BadInput
from zoo.metrics.logits import class_probabilities
from zoo.models import converters, keras_only

RUNTIMES = ("auto", "compiled", "litert")
# Largest difference of a probability; in float32 it is about 1e-6, and rounding to bfloat16 exceeds it.
TOLERANCE = 1e-4
# Examples to compare: enough that one slow call does not decide.
_CHECKED = 5
# Part of the name of every cached file: raised when their content changes.
_FORMAT = b"1"


class Lite:
    """A network in LiteRT, for single examples.

    Attributes:
        in_use: whether it replaces the compiled model; None until enough examples were compared.
        difference: largest difference of a probability so far.
    """

    def __init__(self, content: bytes, record: Path):
        self._content, self._record = content, record
        self._ready: dict[tuple, tuple] = {}
        self.in_use, self.difference = _kept(record)
        self._seconds: list[tuple[float, float]] = []

    def __call__(self, names: Sequence[str], inputs: Sequence[np.ndarray], compiled: Callable) -> np.ndarray:
        """Logits `[1, ...]` of one example: LiteRT's, or those of `compiled()`.

        Args:
            names: input names.
            inputs: arrays `[1, ...]`.
            compiled: computes the logits with the compiled model.
        """
        if self.in_use:
            return self._run(names, inputs)
        if self.in_use is False:
            return compiled()
        # A first call compiles or loads, so it is not timed.
        compiled(), self._run(names, inputs)
        started = time.perf_counter()
        expected = compiled()
        between = time.perf_counter()
        logits = self._run(names, inputs)
        self._seconds.append((between - started, time.perf_counter() - between))
        self._compare(expected, logits)
        return expected

    def _compare(self, expected: np.ndarray, logits: np.ndarray) -> None:
        difference = np.abs(class_probabilities(expected) - class_probabilities(logits)).max()
        self.difference = max(self.difference, float(difference)) if np.isfinite(difference) else float("inf")
        if self.difference > TOLERANCE:
            self._decide(False, f"differs from the compiled model by {self.difference:.2g} in a probability")
        elif len(self._seconds) == _CHECKED:
            compiled, lite = np.median(self._seconds, axis=0)
            reason = f"takes {lite * 1e3:.2f} ms for an example, the compiled model {compiled * 1e3:.2f} ms"
            self._decide(bool(lite < compiled), reason)

    def _decide(self, in_use: bool, reason: str) -> None:
        self.in_use = in_use
        if not in_use:
            print(f"zoo: LiteRT {reason}: the compiled model stays", file=sys.stderr, flush=True)
        try:
            cache.replace(self._record, json.dumps({"in_use": in_use, "difference": self.difference}).encode())
        except OSError:
            # The next process measures again.
            return

    def _run(self, names: Sequence[str], inputs: Sequence[np.ndarray]) -> np.ndarray:
        key = tuple(each.shape for each in inputs)
        if key not in self._ready:
            self._ready[key] = self._interpreter(names, inputs)
        interpreter, indices, output = self._ready[key]
        for index, each in zip(indices, inputs):
            if index is not None:
                interpreter.set_tensor(index, each)
        interpreter.invoke()
        return interpreter.get_tensor(output)

    def _interpreter(self, names: Sequence[str], inputs: Sequence[np.ndarray]) -> tuple:
        """An interpreter for these shapes, its input indices (None where it lacks an input), and its output index."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=self._content)
        runner = interpreter.get_signature_runner()
        by_name = {name: each["index"] for name, each in runner.get_input_details().items()}
        output = runner.get_output_details()["logits"]["index"]
        # The runner keeps a reference to the interpreter, which would then refuse to run.
        del runner
        # A model of arrays has one input, whatever its name.
        indices = list(by_name.values()) if len(by_name) == len(inputs) == 1 else [by_name.get(name) for name in names]
        for index, each in zip(indices, inputs):
            if index is not None:
                interpreter.resize_tensor_input(index, each.shape)
        interpreter.allocate_tensors()
        return interpreter, indices, output


def lite(model: keras.Model, path: Path, runtime: str, segments: bool = False) -> Lite | None:
    """The LiteRT version of a run's classifier; None where the compiled model is used alone.

    Args:
        model: the run's model.
        path: its model.keras, whose content is the key in the cache.
        runtime: "litert" converts the model if it is not cached; "auto" uses a cached conversion; "compiled" neither.
        segments: whether the model reads pairs of texts.

    Raises:
        BadInput: an unknown runtime, or "litert" where it is not installed.
    """
    if runtime not in RUNTIMES:
        raise BadInput(f"runtime is {runtime!r}: expected one of {', '.join(RUNTIMES)}")
    installed = importlib.util.find_spec("ai_edge_litert") is not None
    if runtime == "litert" and not installed:
        raise BadInput("--runtime=litert needs ai-edge-litert: run `pip install zoo-keras[export]`")
    if runtime == "compiled" or not installed:
        return None
    name = cache.name_of(b"litert", _FORMAT, path.read_bytes())
    folder = cache.folder()
    if runtime == "auto" and not (folder / f"{name}.safetensors").exists():
        return None
    notes: list[str] = []
    content = cache.cached(folder, name, lambda: {"model": np.frombuffer(_converted(model, segments), np.uint8)}, notes)
    for note in notes:
        print(f"zoo: {note}", file=sys.stderr)
    return Lite(content["model"].tobytes(), folder / f"{name}.json")


def _converted(model: keras.Model, segments: bool) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        converters.litert(keras_only.plain(model, segments), path)
        return path.read_bytes()


def _kept(record: Path) -> tuple[bool | None, float]:
    """Whether to use LiteRT, as an earlier process decided (None: not yet), and the largest difference."""
    try:
        saved = files.read_json(record)
        return bool(saved["in_use"]), float(saved["difference"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, 0.0
