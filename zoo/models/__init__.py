"""Keras models and layers: MLP, LSTM, Transformer encoder and language model, their heads and converters.

May import randomness, files and errors; knows no data set, no file of a run and no engine.
Start at mlp.py, then transformer.py.
"""
