"""Evaluation of a finished run on its own test split or on other data.

May import predict.predictors.
Start at evaluate.py.
"""
