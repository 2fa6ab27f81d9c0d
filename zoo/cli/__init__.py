"""The command `zoo`, one file per command.

May import everything in zoo and is imported by nothing; TensorFlow and NumPy are imported only when a command runs.
Start at main.py.
"""
