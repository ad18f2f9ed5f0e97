"""Microbenchmarks of the Q-metric on a CUDA GPU: `python -m qmetric.bench --help`."""
