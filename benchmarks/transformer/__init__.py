"""The race of encoder training and inference: `python -m benchmarks.transformer`.

May import zoo and benchmarks.harness; each peer_*.py needs only its peer.
Start at __main__.py; engine.py is the zoo's contender.
"""
