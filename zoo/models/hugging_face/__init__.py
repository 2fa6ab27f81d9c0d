"""BERT folders of Hugging Face's transformers: reads and writes config, weights and tokenizer.

May import models and data.text; knows nothing of runs.
Start at folder.py.
"""
