"""What test-time adaptation is worth: `python -m benchmarks.multi_step`.

May import zoo and benchmarks.harness.
Start at __main__.py.
"""
