"""Benchmarks against named baselines, measured alternately in one run."""
