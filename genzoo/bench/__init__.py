"""Benchmarks: suites of models x datasets x seeds, run in separate processes and reported."""
