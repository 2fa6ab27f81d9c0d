"""BERT folders as transformers writes them: config, weights, tokenizer, read and written.

May import models and data.text; knows nothing of runs.
Start at folder.py.
"""
