"""One file per stage of --refine, its paper on top.

May import predict, engine and the guards of adaptation.
Start at statistics.py.
"""
