"""The command `zoo`, one file per command.

May import everything in zoo, and is imported by nothing; TensorFlow is imported only when it is needed.
Start at main.py.
"""
