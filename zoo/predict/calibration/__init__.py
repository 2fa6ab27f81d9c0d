"""Calibration: temperature scaling, label shift and its test, selective prediction.

May import metrics; works on arrays of logits alone.
Start at temperature_scaling.py.
"""
