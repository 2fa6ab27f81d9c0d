"""Test-time adaptation: prediction in several steps, each change guarded, judged and taken back if it harms.

May import predict, engine, metrics, models and data; is imported by the command line.
Start at refiner.py, then guards.py.
"""
