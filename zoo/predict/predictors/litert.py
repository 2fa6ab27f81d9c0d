"""One example at a time by LiteRT, where that is faster than the compiled model and says the same.

A call into TensorFlow costs more than a small network's arithmetic. LiteRT's file takes seconds to make, which a few
answers never earn back: so it is made only when it is asked for (`runtime="litert"`), kept in the cache, and used from
then on (`runtime="auto"`). The first real examples are answered by both, and whether LiteRT is to be used is kept, too.
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

from zoo.data import cache
from zoo.errors import BadInput
from zoo.metrics.logits import class_probabilities
from zoo.models import converters, keras_only

RUNTIMES = ("auto", "compiled", "litert")
# Of probabilities; in float32 both differ by 1e-6 or so, and bfloat16's rounding is no agreement.
TOLERANCE = 1e-4
# Enough that one slow call decides nothing.
_CHECKED = 5
# Part of the name of every kept file: raised when what is kept changes.
_FORMAT = b"1"


class Lite:
    """A network that LiteRT runs for single examples.

    Attributes:
        in_use: whether it answers; None until so many examples were compared.
        difference: the largest difference of a probability that was seen.
    """

    def __init__(self, content: bytes, record: Path):
        self._content, self._record = content, record
        self._ready: dict[tuple, tuple] = {}
        self.in_use, self.difference = _kept(record)
        self._seconds: list[tuple[float, float]] = []

    def __call__(self, names: Sequence[str], inputs: Sequence[np.ndarray], compiled: Callable) -> np.ndarray:
        """Logits `[1, ...]` of one example: LiteRT's, or those of `compiled()`.

        Args:
            names: of the inputs.
            inputs: `[1, ...]` each.
            compiled: what the model itself says.
        """
        if self.in_use:
            return self._run(names, inputs)
        if self.in_use is False:
            return compiled()
        # What is compiled or loaded first is not what is compared.
        compiled(), self._run(names, inputs)
        started = time.perf_counter()
        wanted = compiled()
        between = time.perf_counter()
        found = self._run(names, inputs)
        self._seconds.append((between - started, time.perf_counter() - between))
        self._compare(wanted, found)
        return wanted

    def _compare(self, wanted: np.ndarray, found: np.ndarray) -> None:
        difference = np.abs(class_probabilities(wanted) - class_probabilities(found)).max()
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
            # It is measured once more by the next process.
            return

    def _run(self, names: Sequence[str], inputs: Sequence[np.ndarray]) -> np.ndarray:
        key = tuple(each.shape for each in inputs)
        if key not in self._ready:
            self._ready[key] = self._made(names, inputs)
        interpreter, places, output = self._ready[key]
        for place, each in zip(places, inputs):
            if place is not None:
                interpreter.set_tensor(place, each)
        interpreter.invoke()
        return interpreter.get_tensor(output)

    def _made(self, names: Sequence[str], inputs: Sequence[np.ndarray]) -> tuple:
        """An interpreter for these shapes, the numbers of its inputs (None: it has no such input), and its output's."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=self._content)
        runner = interpreter.get_signature_runner()
        known = {name: each["index"] for name, each in runner.get_input_details().items()}
        output = runner.get_output_details()["logits"]["index"]
        # It holds on to the interpreter, which then refuses to run.
        del runner
        # Of an array there is one input, whatever the model calls it.
        places = list(known.values()) if len(known) == len(inputs) == 1 else [known.get(name) for name in names]
        for place, each in zip(places, inputs):
            if place is not None:
                interpreter.resize_tensor_input(place, each.shape)
        interpreter.allocate_tensors()
        return interpreter, places, output


def lite(model: keras.Model, path: Path, runtime: str, segments: bool = False) -> Lite | None:
    """LiteRT's version of a run's classifier; None where the compiled model is to answer all.

    Args:
        model: the run's, as it was loaded.
        path: its model.keras, by whose content the kept file is found.
        runtime: "litert" makes the file where there is none; "auto" uses one that was made.
        segments: whether it reads pairs of texts.

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
    place = cache.folder()
    if runtime == "auto" and not (place / f"{name}.safetensors").exists():
        return None
    notes: list[str] = []
    found = cache.cached(place, name, lambda: {"model": np.frombuffer(_converted(model, segments), np.uint8)}, notes)
    for note in notes:
        print(f"zoo: {note}", file=sys.stderr)
    return Lite(found["model"].tobytes(), place / f"{name}.json")


def _converted(model: keras.Model, segments: bool) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        converters.litert(keras_only.plain(model, segments), path)
        return path.read_bytes()


def _kept(record: Path) -> tuple[bool | None, float]:
    """What an earlier process has found, None where it has not."""
    try:
        found = json.loads(record.read_text(encoding="utf8"))
        return bool(found["in_use"]), float(found["difference"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, 0.0
