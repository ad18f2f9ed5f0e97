"""The Q-metric's arithmetic inside a kernel, elementwise on [clusters] tensors, shared by all kernels.

`confidence_terms` is what depends on confidences only, so that a kernel can compute it while embeddings are loading;
`score` is the rest. The formula itself is in `reference.py`.

A NaN must reach the result, so bounds are set with comparisons that leave it alone, never with min and max.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from qmetric.triton_kernels.dialect import jit, log2

_MIN_WEIGHT_SUM = tl.constexpr(1.2e-38)  # a smaller sum of weights counts as this: its reciprocal would be infinite


def _cosine(product: tl.tensor, square_a: tl.tensor, square_b: tl.tensor, same: tl.tensor) -> tl.tensor:
    """<a, b> / (|a| |b|) from the product and the squared norms, within [-1, 1]; 0 where a norm is below 1e-15."""
    inverse_a = tl.where(square_a < 1e-30, 0.0, tl.rsqrt(square_a))
    inverse_b = tl.where(square_b < 1e-30, 0.0, tl.rsqrt(square_b))
    s = product * (inverse_a * inverse_b)
    s = tl.where(s > 1.0, 1.0, s)
    s = tl.where(s < -1.0, -1.0, s)
    return tl.where(same & (s > 0.0), 1.0, s)


def _confidence_terms(
    weight_sum: tl.tensor, square_sum: tl.tensor, count: tl.tensor, gamma: tl.tensor, tau: tl.tensor
) -> tl.tensor:
    """C and the three terms that `score` needs, from sum c_i c_j, sum c_i^2 and the number of valid answers.

    The terms are C^gamma (0 where Q is 0 by definition, NaN where C is), 1 / sum c_i c_j and 1 / max(tau, 1 - tau).
    """
    c = tl.where(count == 0.0, 0.0, tl.sqrt(square_sum / tl.where(count == 0.0, 1.0, count)))
    # x^y = 2^(y log2 x), where 0^0 = 1.
    c_power = tl.where(gamma == 0.0, 1.0, tl.exp2(gamma * log2(c)))
    c_power = tl.where(weight_sum == 0.0, 0.0, c_power)
    c_power = tl.where(c != c, c, c_power)  # noqa: PLR0124 (NaN is what differs from itself)
    inverse_weight = 1.0 / tl.where(tl.abs(weight_sum) < _MIN_WEIGHT_SUM, _MIN_WEIGHT_SUM, weight_sum)
    inverse_distance = 1.0 / tl.where(tau > 0.5, tau, 1.0 - tau)
    return c, c_power, inverse_weight, inverse_distance


def _score(
    similarity_sum: tl.tensor,
    weight_sum: tl.tensor,
    c_power: tl.tensor,
    inverse_weight: tl.tensor,
    inverse_distance: tl.tensor,
    gamma: tl.tensor,
    tau: tl.tensor,
) -> tl.tensor:
    """Q and P from sum c_i c_j S_ij, sum c_i c_j and the terms of `confidence_terms`."""
    p = tl.where(weight_sum == 0.0, 0.0, similarity_sum * inverse_weight)
    b = 1.0 - tl.abs(p - tau) * inverse_distance
    b = tl.where(b < 0.0, 0.0, b)
    b_power = tl.where(gamma == 1.0, 1.0, tl.exp2((1.0 - gamma) * log2(b)))
    b_power = tl.where(b != b, b, b_power)  # noqa: PLR0124
    return c_power * b_power, p


cosine: Any = jit(_cosine)
confidence_terms: Any = jit(_confidence_terms)
score: Any = jit(_score)
cosine_in_triton: Any = triton.jit(_cosine)
confidence_terms_in_triton: Any = triton.jit(_confidence_terms)
score_in_triton: Any = triton.jit(_score)
