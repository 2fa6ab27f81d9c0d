"""Data sets and files, read, checked and split: images, tables, texts, tagged sentences, running text.

May import data and data.text.
Start at images.py or text_classification.py.
"""
