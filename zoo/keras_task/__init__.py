"""The task of a compiled Keras model: its losses, metrics, optimizer and data as the engine takes them.

May import engine, metrics, models and data; is imported by experiment and training.
Start at task.py.
"""
