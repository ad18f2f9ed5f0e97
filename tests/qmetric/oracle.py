"""The Q-metric written from its definition, one number at a time, in float64."""

import math
from typing import Any

import torch
from torch import Tensor


def cosine(a: list[float], b: list[float]) -> float:
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / norms if norms > 0 else 0.0


def cluster(
    embeddings: Tensor, confidences: Tensor, mask: Tensor | None, gamma: float, tau: float
) -> tuple[float, float, float, Any]:
    """Q, C, P and S of one cluster: embeddings [N, m, d], confidences and mask [N]."""
    n = len(embeddings)
    rows = [e.flatten().double().tolist() for e in embeddings]
    c = confidences.double().tolist()
    valid = [i for i in range(n) if mask is None or bool(mask[i])]
    s = [[0.0] * n for _ in range(n)]
    for i in valid:
        for j in valid:
            s[i][j] = cosine(rows[i], rows[j])
    big_c = math.sqrt(sum(c[i] ** 2 for i in valid) / len(valid)) if valid else 0.0
    pairs = [(i, j) for i in valid for j in valid if i < j]
    weight = sum(c[i] * c[j] for i, j in pairs)
    if weight == 0:
        return 0.0, big_c, 0.0, s
    p = sum(c[i] * c[j] * s[i][j] for i, j in pairs) / weight
    b = max(0.0, 1 - abs(p - tau) / max(tau, 1 - tau))
    return big_c**gamma * b ** (1 - gamma), big_c, p, s


def batch(
    embeddings: Tensor, confidences: Tensor, mask: Tensor | None, gamma: float = 0.5, tau: float = 0.7
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Q, C, P [B] and S [B, N, N], float64."""
    found = [
        cluster(embeddings[i], confidences[i], None if mask is None else mask[i], gamma, tau)
        for i in range(len(embeddings))
    ]
    q, c, p, s = zip(*found, strict=True)
    return tuple(torch.tensor(value, dtype=torch.float64) for value in (q, c, p, s))
