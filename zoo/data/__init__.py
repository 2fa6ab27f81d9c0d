"""Batches as a pure function of the step: shuffling, bucketing, splits, the cache, data sets and tokenizers.

May import randomness, files and errors; knows no model.
Start at batches.py; datasets/ reads files, text/ converts texts to token ids.
"""
