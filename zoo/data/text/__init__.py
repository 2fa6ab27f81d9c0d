"""Text preprocessing: tokenizers, special tokens, masking, alignment of words and tokens.

May import data.
Start at tokenizer.py, then encoding.py.
"""
