"""A run from its config to a trained model in a folder: the outer loop, flags, signals, progress.

May import experiment, engine, tensorboard, metrics, models and data; is imported by experiments alone.
Start at run.py.
"""
