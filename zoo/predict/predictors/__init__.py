"""Predictors, one class per task: classification, regression, tagging and fill-mask.

May import metrics, models and data; the other rooms of predict build on it.
Start at predictor.py.
"""
