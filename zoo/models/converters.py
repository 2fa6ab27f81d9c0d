"""Converters of Keras models to LiteRT and ONNX."""

import contextlib
import io
import logging
import warnings
from pathlib import Path

import keras


def litert(network: keras.Model, path: Path) -> None:
    """Writes a .tflite file of a network that is `plain`."""
    named, specs = with_named_output(network), None
    if has_lstm(network):
        # LiteRT keeps an LSTM's outputs in a list of tensors whose size it must know.
        specs = [keras.InputSpec(shape=(1, *x.shape[1:]), dtype=x.dtype, name=x.name) for x in named.inputs]
    with quiet():
        named.export(str(path), format="litert", verbose=False, input_signature=specs)


def onnx(network: keras.Model, path: Path) -> None:
    """Writes a .onnx file of a network that is `plain`."""
    named = with_named_output(network)
    # Keras exports what has been called.
    named(network.inputs)
    with quiet():
        named.export(str(path), format="onnx", verbose=False)


@contextlib.contextmanager
def quiet():
    """Without what converters print of their own work."""
    logger, said = logging.getLogger("tf2onnx"), io.StringIO()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def with_named_output(network: keras.Model) -> keras.Model:
    """The same network, whose output is called `logits`."""
    return keras.Model(network.inputs, {"logits": network.output})


def has_lstm(network: keras.Model) -> bool:
    """Whether LiteRT must know the size of its batch."""
    return any(isinstance(layer, keras.layers.LSTM) for layer in network.layers)
