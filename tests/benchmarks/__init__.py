"""Benchmarks: speed and memory, each figure beside its floor or its rival; `python -m tests.benchmarks`."""
