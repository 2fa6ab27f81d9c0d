"""Keras models and layers: MLP, LSTM, Transformer encoder and language model, their heads and converters.

May import randomness, files and errors; knows no data set, run or engine.
Start at mlp.py, then transformer.py.
"""

# First of all: `layer_registration` imports all layers right after Keras, and must not meet one of them half imported.
import keras  # noqa: F401
