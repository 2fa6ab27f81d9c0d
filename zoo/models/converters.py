"""Converters of Keras models to LiteRT and ONNX."""

import contextlib
import io
import logging
import warnings
from pathlib import Path

import keras


def litert(network: keras.Model, path: Path) -> None:
    """Writes a .tflite file of a network of Keras' own layers (`keras_only.plain`)."""
    named, specs = with_named_output(network), None
    if has_lstm(network):
        # LiteRT keeps an LSTM's outputs in a TensorList, whose size must be static.
        specs = [keras.InputSpec(shape=(1, *x.shape[1:]), dtype=x.dtype, name=x.name) for x in named.inputs]
    with quiet():
        named.export(str(path), format="litert", verbose=False, input_signature=specs)


def onnx(network: keras.Model, path: Path) -> None:
    """Writes a .onnx file of a network of Keras' own layers (`keras_only.plain`)."""
    named = with_named_output(network)
    # Keras exports only models that have been called.
    named(network.inputs)
    with quiet():
        named.export(str(path), format="onnx", verbose=False)


@contextlib.contextmanager
def quiet():
    """Suppresses the warnings, logs and output of the converters."""
    logger, output = logging.getLogger("tf2onnx"), io.StringIO()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(output):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def with_named_output(network: keras.Model) -> keras.Model:
    """The same network with its output named `logits`."""
    return keras.Model(network.inputs, {"logits": network.output})


def has_lstm(network: keras.Model) -> bool:
    """Whether the network has an LSTM, for which LiteRT needs a static batch size."""
    return any(isinstance(layer, keras.layers.LSTM) for layer in network.layers)
