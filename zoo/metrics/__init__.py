"""Metrics with bootstrap intervals, evaluation reports, linear baselines, softmax of logits.

May import data; knows no model and no TensorBoard.
Start at classification.py.
"""
