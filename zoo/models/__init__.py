"""Keras models and layers: MLP, LSTM, Transformer encoder and language model, their heads and converters.

May import randomness, terms, files and errors; knows no data set, run or engine.
Start at mlp.py, then transformer.py.
"""
