"""The zoo, and Keras' own `predict`, in the inference race."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

from benchmarks.harness.worker import Training
from benchmarks.inference.data import TIME, inference
from benchmarks.lstm import data
from benchmarks.mlp import data as mlp_data
from benchmarks.transformer import engine as transformer_engine
from zoo.models import converters, lstm, mlp
from zoo.models.keras_only import plain
from zoo.predict.predictors.litert import Lite


def engine(work: str, batch_size: int, precision: str) -> Training:
    """As `zoo.load` predicts with a converted run: single examples by LiteRT, if it agrees and is faster."""
    forward = _program(work, batch_size, precision)
    if batch_size > 1:
        return inference(work, forward, batch_size)
    runtime, names = _lite(work), _names(work)
    return inference(work, lambda batch: runtime(names, [batch], lambda: forward(batch)), batch_size)


def compiled(work: str, batch_size: int, precision: str) -> Training:
    """The forward pass of `zoo.predict` as one program."""
    return inference(work, _program(work, batch_size, precision), batch_size)


def lite(work: str, batch_size: int) -> Training:
    """LiteRT through the zoo's own wrapper, even if it is slower."""
    runtime, names = _lite(work), _names(work)
    runtime.in_use = True
    return inference(work, lambda batch: runtime(names, [batch], None), batch_size)


def onnx(work: str, batch_size: int) -> Training:
    """ONNX Runtime with the exported file."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        converters.onnx(plain(_network(work, "float32")), Path(folder) / "model.onnx")
        session = onnxruntime.InferenceSession(Path(folder) / "model.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return inference(work, lambda batch: session.run(None, {name: batch})[0], batch_size)


def predict(work: str, batch_size: int, whole: bool) -> Training:
    """`model.predict` with one batch, or `predict_on_batch`, of the network in Keras' own layers."""
    model = plain(_network(work, "float32"))
    call = (lambda batch: model.predict(batch, verbose=0)) if whole else model.predict_on_batch
    return inference(work, call, batch_size)


def _program(work: str, batch_size: int, precision: str) -> Callable:
    model = _network(work, precision)
    program = tf.function(lambda x: model(x, training=False), autograph=False)
    shape = [batch_size, TIME.get(work, mlp_data.FEATURES)]
    concrete = program.get_concrete_function(tf.TensorSpec(shape, tf.float32 if work == "mlp" else tf.int32))
    return lambda batch: concrete(tf.constant(batch)).numpy()


def _lite(work: str) -> Lite:
    """LiteRT with the same weights as the program, drawn from one seed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        converters.litert(plain(_network(work, "float32")), path)
        return Lite(path.read_bytes(), Path(folder) / "gone" / "none.json")


def _names(work: str) -> list[str]:
    return ["x"] if work == "mlp" else ["tokens"]


def _network(work: str, precision: str) -> keras.Model:
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
    keras.utils.set_random_seed(0)
    if work == "mlp":
        return mlp.mlp((mlp_data.FEATURES,), mlp_data.CLASSES, (mlp_data.HIDDEN,) * 2)
    if work == "lstm":
        width = data.WIDTH
        return lstm.classifier(data.TOKENS, width=width, units=width).model
    return transformer_engine.network("inference", 0.0)
