"""The Q-metric as one would write it without this package."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import Tensor


def float32_matmul(embeddings: Tensor, confidences: Tensor, gamma: float = 0.5, tau: float = 0.7) -> tuple[Tensor, ...]:
    """The plain formula: normalise in float32, multiply, weigh. Returns Q, C, P [B]."""
    x = torch.nn.functional.normalize(embeddings.flatten(2).float(), dim=2)
    return _scores(x @ x.mT, confidences, gamma, tau)


def native_dtype_bmm(
    embeddings: Tensor, confidences: Tensor, gamma: float = 0.5, tau: float = 0.7
) -> tuple[Tensor, ...]:
    """Multiply in the embeddings' 16-bit type with float32 results, and normalise afterwards: fewer bytes."""
    x = embeddings.flatten(2)
    gram = torch.bmm(x, x.mT, out_dtype=torch.float32)
    inverse = gram.diagonal(dim1=1, dim2=2).rsqrt()
    return _scores(gram * inverse[:, :, None] * inverse[:, None, :], confidences, gamma, tau)


def _scores(s: Tensor, c: Tensor, gamma: float, tau: float) -> tuple[Tensor, ...]:
    weights = (c[:, :, None] * c[:, None, :]).triu(1)
    p = (weights * s).sum((1, 2)) / weights.sum((1, 2))
    confidence = c.square().mean(1).sqrt()
    b = (1 - (p - tau).abs() / max(tau, 1 - tau)).clamp(min=0)
    return confidence**gamma * b ** (1 - gamma), confidence, p


def sentence_transformers_cosine() -> Callable[[Tensor, Tensor], Tensor] | None:
    """`sentence_transformers.util.cos_sim`, or None where the package is not installed."""
    try:
        util = importlib.import_module("sentence_transformers.util")
    except ImportError:
        return None
    cosine: Callable[[Tensor, Tensor], Tensor] = util.cos_sim
    return cosine
