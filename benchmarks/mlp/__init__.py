"""The race of MLP training: `python -m benchmarks.mlp`.

May import zoo and benchmarks.harness; each peer_*.py needs only its peer.
Start at __main__.py; engine.py is the zoo's contender.
"""
