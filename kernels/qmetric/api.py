"""The two public functions: pairwise Frobenius cosines, and the whole Q-metric."""

from __future__ import annotations

import torch
from torch import Tensor

from qmetric import ops as _ops  # defines torch.ops.qmetric
from qmetric.checks import check_embeddings
from qmetric.result import QMetric

_frobenius_cosine = torch.ops.qmetric.frobenius_cosine.default
_frobenius_cosine_out = torch.ops.qmetric.frobenius_cosine_out.default
_q_metric = torch.ops.qmetric.q_metric.default
_q_metric_with_similarity = torch.ops.qmetric.q_metric_with_similarity.default
_q_metric_out = torch.ops.qmetric.q_metric_out.default


def frobenius_cosine(embeddings: Tensor, mask: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """Pairwise similarities S of each cluster's answers.

    S_ij = <E_i, E_j>_F / (|E_i|_F |E_j|_F), summed in float32 and kept within [-1, 1]; S_ii is 1.

    `embeddings`: [B, N, m, d], bfloat16, float16 or float32, on a CPU or a CUDA GPU, B >= 0, 1 <= N <= 64, m, d >= 1;
    contiguous, or a copy is made. `mask`: bool [B, N], True where an answer exists; None means all. `out`: float32
    [B, N, N], contiguous, written in place of a new tensor. Returns S, float32 [B, N, N].

    S is 0 wherever a masked answer takes part, on the diagonal too, and wherever an embedding's norm is below 1e-15.
    A NaN or infinity in a valid embedding makes its row and column NaN and nothing else; masked ones may hold
    anything. Norms must stay below 1e18.

    One launch on the current stream: no wait for the device and, with `out`, no allocation, so it can be captured in
    a CUDA graph once a call of the same shape has compiled it. Not differentiable.

    Raises ValueError for a wrong shape or device and TypeError for a wrong dtype.
    """
    if out is None:
        result: Tensor = _frobenius_cosine(embeddings, mask)
        return result
    _frobenius_cosine_out(embeddings, mask, out)
    return out


def q_metric(
    embeddings: Tensor,
    confidences: Tensor,
    mask: Tensor | None = None,
    gamma: float = 0.5,
    tau: float = 0.7,
    *,
    return_similarity: bool = False,
    out: QMetric | tuple[Tensor, ...] | None = None,
) -> QMetric:
    """The Q-metric of each cluster: how likely it should exit early (Faster-MoA, arXiv 2512.18126).

    With S as in `frobenius_cosine` and c_i the confidence of answer i (the exponential of its mean token
    log-probability, in (0, 1]), over the cluster's valid answers:
    C = sqrt(mean c_i^2), P = sum_{i<j} c_i c_j S_ij / sum_{i<j} c_i c_j,
    B = max(0, 1 - |P - tau| / max(tau, 1 - tau)), Q = C^gamma B^(1 - gamma).

    `embeddings`, `mask`: as in `frobenius_cosine`. `confidences`: [B, N], float32, bfloat16 or float16, on the same
    device. `gamma`, `tau`: in [0, 1]. `return_similarity`: also return S. `out`: (Q, C, P) or (Q, C, P, S) to write
    into, float32 and contiguous, [B] each and [B, N, N]. Returns `QMetric(Q, C, P, S)`, S None unless asked for.

    A cluster with fewer than two valid answers, or whose confidences are all 0, has no agreement to speak of: P = 0
    and Q = 0. A NaN or infinity in an embedding or confidence that takes part makes Q NaN (values are not looked at
    before the launch, which would wait for the device), so a caller must treat a NaN as "do not exit": `u < Q` does.
    Masked entries may hold anything.

    One launch on the current stream, capturable like `frobenius_cosine`. Not differentiable.

    Raises ValueError for a wrong shape, device, gamma or tau, and TypeError for a wrong dtype.
    """
    if out is not None:
        if not 3 <= len(out) <= 4:
            raise ValueError(f"out must be (Q, C, P) or (Q, C, P, S), got {len(out)} tensors: pass a QMetric")
        given = QMetric(*out)
        if return_similarity and given.S is None:
            check_embeddings(embeddings)
            given = given._replace(S=_ops.empty_similarity(embeddings))
        _q_metric_out(embeddings, confidences, mask, gamma, tau, *given)
        return given
    if return_similarity:
        return QMetric(*_q_metric_with_similarity(embeddings, confidences, mask, gamma, tau))
    return QMetric(*_q_metric(embeddings, confidences, mask, gamma, tau))
