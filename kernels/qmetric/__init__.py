"""Triton kernels for the Q-metric: similarity and confidence of a cluster's answers."""
