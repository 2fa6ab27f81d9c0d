"""Calibration: label shift and its test, selective prediction.

May import metrics, which has temperature scaling; works on arrays of logits alone.
Start at label_shift.py.
"""
