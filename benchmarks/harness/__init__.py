"""Harness of the races: contenders take turns, each in its own process; ratios with their spread.

May import zoo; imports no race.
Start at race.py.
"""
