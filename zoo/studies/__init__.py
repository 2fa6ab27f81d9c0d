"""Several runs together: sweeps over hyperparameters, paired comparisons.

May import training and predict.
Start at sweep.py and comparison.py.
"""
