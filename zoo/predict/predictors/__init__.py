"""Predictors: what loads a run and answers for arrays, texts, tags and masked words.

May import metrics, models and data; the other rooms of predict build on it.
Start at loading.py.
"""
