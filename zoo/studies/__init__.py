"""Several runs together: paired comparisons.

May import training and predict.
Start at comparison.py.
"""
