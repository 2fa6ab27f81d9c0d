"""Stages of test-time adaptation (`--refine`), one file per method with its paper: tent, sar, eata, cotta, ...

May import predict, engine and the guards of adaptation.
Start at statistics.py, then tent.py.
"""
