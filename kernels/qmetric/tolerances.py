"""How far results may be from float64. All errors are absolute."""

from __future__ import annotations

import torch
from torch import Tensor

from qmetric.result import QMetric

# S: d products summed in float32 by matrix units, which round towards zero; float32 embeddings take three products
# of tf32 halves each. Worst seen on an H200: 5.8e-6, float32 with d = 1024.
SIMILARITY_TOLERANCE = 1e-5
# S of `correlation_cosine`: on a GPU, unit columns or float32 are rounded to bfloat16. Worst seen: see NOTES.md.
CORRELATION_TOLERANCE = 1e-3
SCORE_TOLERANCE = 1e-5  # C and P; and Q beyond what such errors of C and P explain


def score_error(result: QMetric, c: Tensor, p: Tensor, gamma: float, tau: float) -> float:
    """The largest error of C, P and Q against float64 values c and p [B]; infinite where one is NaN.

    Q = C^gamma B^(1 - gamma) is steep where B or C is near 0, so its error is how far it lies outside the values
    that the formula takes for C and P off by at most SCORE_TOLERANCE.
    """
    found = [value.double() for value in result[:3]]
    b = 1 - (p - tau).abs() / max(tau, 1 - tau)
    none = c.isnan() | ((p == 0) & (result.Q == 0))  # fewer than two answers: Q is 0 by definition
    low = (c - SCORE_TOLERANCE).clamp(min=0) ** gamma * (b - 2 * SCORE_TOLERANCE).clamp(min=0) ** (1 - gamma)
    high = (c + SCORE_TOLERANCE) ** gamma * (b + 2 * SCORE_TOLERANCE).clamp(min=0) ** (1 - gamma)
    outside = torch.where(none, 0.0, torch.maximum(low - found[0], found[0] - high).clamp(min=0))
    return max(max_abs(outside), max_abs(found[1] - c), max_abs(found[2] - p))


def max_abs(difference: Tensor) -> float:
    """The largest absolute value; infinite where there is a NaN, 0 for an empty tensor."""
    if difference.numel() == 0:
        return 0.0
    value = difference.abs().max().item()
    return float("inf") if torch.tensor(value).isnan() else float(value)
