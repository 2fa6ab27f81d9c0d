"""What all races share: contenders in turns, each in a process of its own; ratios with their spread.

May import zoo; imports no race.
Start at race.py.
"""
