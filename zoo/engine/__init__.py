"""The compiled training engine: one step, its loops, optimizers, schedules, devices, checkpoints, health.

May import models and data; knows no file format of data, no flag, no data set and no experiment.
Start at step.py (one step, in order), then engine.py.
"""
