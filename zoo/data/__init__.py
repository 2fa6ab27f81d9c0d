"""Batches as a pure function of the step, and what they are made of.

May import randomness, files and errors; knows no model.
Start at batches.py; datasets/ reads files, text/ makes ids of texts.
"""
