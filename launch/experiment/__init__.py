"""Experiments: arms compared on benchmarks."""
