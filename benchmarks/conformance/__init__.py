"""Conformance table: which models keep the engine's promises (`python -m benchmarks.conformance`).

`subjects.py` makes the models, `checks.py` tries one of them, `plain_keras.py` loads what was saved without the zoo,
`table.py` writes docs/conformance.md.
"""
