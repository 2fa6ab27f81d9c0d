"""Test-time adaptation: multi-step prediction in which each change is guarded, and taken back if it harms.

May import predict, engine, metrics, models and data; is imported by the command line.
Start at refiner.py, then guards.py, then stages/tent.py; in stages/ are also sar, eata, cotta and the other methods.
"""
