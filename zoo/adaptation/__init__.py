"""Test-time adaptation: multi-step prediction in which each change is guarded, and taken back if it harms.

May import predict, engine, metrics, models and data; is imported by the command line.
Start at refiner.py, then guards.py; the methods (tent.py, sar.py, eata.py, cotta.py, ...) are in stages/.
"""
