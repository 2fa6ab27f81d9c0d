"""Data sets read from packages or files, checked and split: images, tables, texts, tagged sentences, running text.

May import data and data.text.
Start at images.py or text_classification.py.
"""
