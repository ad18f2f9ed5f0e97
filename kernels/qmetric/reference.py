"""The Q-metric in plain torch: it runs where the Triton kernels do not, and they are tested against it.

The formula is Algorithm 1 of Faster-MoA (arXiv 2512.18126) in a variant of ours. Of a cluster's answers i with
confidences c_i (the exponential of the mean token log-probability, in (0, 1]) and embeddings E_i, `[m, d]` matrices:

    S_ij = <E_i, E_j>_F / (|E_i|_F |E_j|_F)
    C    = sqrt(mean_i c_i^2)
    P    = sum_{i<j} c_i c_j S_ij / sum_{i<j} c_i c_j
    B    = max(0, 1 - |P - tau| / max(tau, 1 - tau))
    Q    = C^gamma B^(1 - gamma)

The paper takes token-level hidden states where this takes pooled embeddings, counts i = j in P, and has gamma = 1/2:
Q = sqrt(C B). Every function computes in `precision` (float32; float64 in tests) and returns that dtype.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ZERO_SQUARED_NORM = 1e-30  # a squared norm below this counts as the zero vector's


def similarity(embeddings: Tensor, mask: Tensor | None, precision: torch.dtype = torch.float32) -> Tensor:
    """S[B, N, N] of embeddings[B, N, m, d]: Frobenius cosines, 0 for masked answers and zero vectors."""
    x = embeddings.flatten(2).to(precision)
    gram = x @ x.transpose(1, 2)
    inverse = _inverse_norm(gram.diagonal(dim1=1, dim2=2))
    s = (gram * (inverse[:, :, None] * inverse[:, None, :])).clamp(-1.0, 1.0)
    same = torch.eye(s.shape[1], dtype=torch.bool, device=s.device)
    s = torch.where(same & (s > 0), torch.ones_like(s), s)
    if mask is not None:
        s = torch.where(mask[:, :, None] & mask[:, None, :], s, torch.zeros_like(s))
    return s


def last_similarity_row(embeddings: Tensor, mask: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
    """The last row of S, [B, N], of embeddings[B, N, m, d], without the others."""
    x = embeddings.flatten(2).to(precision)
    inverse = _inverse_norm((x * x).sum(2))
    s = (x @ x[:, -1, :, None]).squeeze(2) * (inverse * inverse[:, -1:])
    s = s.clamp(-1.0, 1.0)
    s[:, -1] = torch.where(s[:, -1] > 0, torch.ones_like(s[:, -1]), s[:, -1])
    return torch.where(mask & mask[:, -1:], s, torch.zeros_like(s))


def scores(
    s: Tensor,
    confidences: Tensor,
    mask: Tensor | None,
    gamma: float,
    tau: float,
    precision: torch.dtype = torch.float32,
    *,
    diagonal: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Q, C, P[B] from similarities s[B, N, N] and confidences[B, N]; with `diagonal` P has the pairs i = j, too."""
    zero = torch.zeros((), dtype=precision, device=s.device)
    c = confidences.to(precision)
    valid = torch.ones_like(c, dtype=torch.bool) if mask is None else mask
    counted = valid[:, :, None] & valid[:, None, :]
    if not diagonal:
        counted = counted.triu(1)
    weights = torch.where(counted, c[:, :, None] * c[:, None, :], zero)
    agreement = torch.where(counted, weights * s.to(precision), zero).sum((1, 2))
    weight = weights.sum((1, 2))
    count = valid.sum(1)
    mean_square = torch.where(valid, c * c, zero).sum(1) / count.clamp(min=1)
    confidence = mean_square.sqrt()
    p = torch.where(weight == 0, zero, agreement / torch.where(weight == 0, torch.ones_like(weight), weight))
    b = (1 - (p - tau).abs() / max(tau, 1 - tau)).clamp(min=0)
    q = torch.where(weight == 0, zero, confidence**gamma * b ** (1 - gamma))
    q = torch.where(p.isnan(), p, q)
    q = torch.where(confidence.isnan(), confidence, q)
    return q, confidence, p


def correlation(states: Sequence[Tensor], precision: torch.dtype = torch.float32) -> Tensor:
    """S[k, k] of states[i] [n_i, h]: Frobenius cosines of their correlation matrices T_i^T T_i with unit columns T.

    By <C_i, C_j> = |T_i T_j^T|^2, the smaller of the two kinds of matrices is computed. An answer without tokens, or
    of zeros alone, is like nothing: its row is 0.
    """
    units = []
    for x in states:
        t = x.to(precision)
        units.append(t * _inverse_norm((t * t).sum(0)))
    total = sum(len(t) for t in units)
    if total <= units[0].shape[1]:
        joined = torch.cat(units)
        squares = (joined @ joined.T).square()
        lengths = [len(t) for t in units]
        gram = torch.stack(
            [torch.stack([part.sum() for part in rows.split(lengths, 1)]) for rows in squares.split(lengths)]
        )
    else:
        correlations = torch.stack([(t.T @ t).flatten() for t in units])
        gram = correlations @ correlations.T
    inverse = _inverse_norm(gram.diagonal())
    s = (gram * (inverse[:, None] * inverse[None, :])).clamp(max=1.0)
    same = torch.eye(len(states), dtype=torch.bool, device=s.device)
    return torch.where(same & (s > 0), torch.ones_like(s), s)


def _inverse_norm(square: Tensor) -> Tensor:
    return torch.where(square < ZERO_SQUARED_NORM, torch.zeros_like(square), square.rsqrt())
