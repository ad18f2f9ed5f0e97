"""The Q-metric's arithmetic inside a kernel, elementwise, shared by all kernels.

What needs confidences only comes first, `confidence_terms`; `score` is what remains once the agreement is known.

A NaN must reach the result, so bounds are set with comparisons that leave it alone, never with min and max.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from qmetric.dialect import jit, log2

_LEAST_WEIGHT = tl.constexpr(1.2e-38)  # a smaller sum of weights counts as this: its reciprocal would be infinite


def _cosine(product: tl.tensor, square_a: tl.tensor, square_b: tl.tensor, same: tl.tensor) -> tl.tensor:
    """<a, b> / (|a| |b|) from the product and the squared norms, within [-1, 1]; 0 where a norm is below 1e-15."""
    inverse_a = tl.where(square_a < 1e-30, 0.0, tl.rsqrt(square_a))
    inverse_b = tl.where(square_b < 1e-30, 0.0, tl.rsqrt(square_b))
    s = product * (inverse_a * inverse_b)
    s = tl.where(s > 1.0, 1.0, s)
    s = tl.where(s < -1.0, -1.0, s)
    return tl.where(same & (s > 0.0), 1.0, s)


def _confidence_terms(
    weight: tl.tensor, energy: tl.tensor, count: tl.tensor, gamma: tl.tensor, tau: tl.tensor
) -> tl.tensor:
    """C and what `score` needs, from sum c_i c_j, sum c_i^2 and the number of valid answers.

    The others are C^gamma (0 where Q is 0 by definition, NaN where C is) and the reciprocals of the weight and of the
    largest distance from tau.
    """
    c = tl.where(count == 0.0, 0.0, tl.sqrt(energy / tl.where(count == 0.0, 1.0, count)))
    # x^y = 2^(y log2 x), where 0^0 = 1.
    c_part = tl.where(gamma == 0.0, 1.0, tl.exp2(gamma * log2(c)))
    c_part = tl.where(weight == 0.0, 0.0, c_part)
    c_part = tl.where(c != c, c, c_part)  # noqa: PLR0124 (NaN is what differs from itself)
    per_weight = 1.0 / tl.where(tl.abs(weight) < _LEAST_WEIGHT, _LEAST_WEIGHT, weight)
    per_distance = 1.0 / tl.where(tau > 0.5, tau, 1.0 - tau)
    return c, c_part, per_weight, per_distance


def _score(
    agreement: tl.tensor,
    weight: tl.tensor,
    c_part: tl.tensor,
    per_weight: tl.tensor,
    per_distance: tl.tensor,
    gamma: tl.tensor,
    tau: tl.tensor,
) -> tl.tensor:
    """Q and P from sum c_i c_j S_ij, sum c_i c_j and the terms above."""
    p = tl.where(weight == 0.0, 0.0, agreement * per_weight)
    b = 1.0 - tl.abs(p - tau) * per_distance
    b = tl.where(b < 0.0, 0.0, b)
    b_part = tl.where(gamma == 1.0, 1.0, tl.exp2((1.0 - gamma) * log2(b)))
    b_part = tl.where(b != b, b, b_part)  # noqa: PLR0124
    return c_part * b_part, p


cosine: Any = jit(_cosine)
confidence_terms: Any = jit(_confidence_terms)
score: Any = jit(_score)
cosine_in_triton: Any = triton.jit(_cosine)
confidence_terms_in_triton: Any = triton.jit(_confidence_terms)
score_in_triton: Any = triton.jit(_score)
