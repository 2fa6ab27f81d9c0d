"""Finished models for other runtimes: SavedModel, Keras, LiteRT, ONNX, Hugging Face.

May import predict, models and data.
Start at formats.py.
"""
