"""The race of LSTM training: `python -m benchmarks.lstm`.

May import zoo and benchmarks.harness; each peer_*.py needs only its peer.
Start at __main__.py; engine.py is the zoo's contender.
"""
