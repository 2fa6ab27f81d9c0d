"""Evaluation of a finished run on its own test split or on other data, by task.

May import predict.predictors.
Start at evaluate.py.
"""
