"""The Q-metric's arithmetic inside a kernel, elementwise, shared by the full and the incremental kernel.

A NaN must reach the result, so bounds are set with comparisons that leave it alone, never with min and max.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from qmetric.dialect import jit


def _cosine(product: tl.tensor, square_a: tl.tensor, square_b: tl.tensor, same: tl.tensor) -> tl.tensor:
    """<a, b> / (|a| |b|) from the product and the squared norms, within [-1, 1]; 0 where a norm is below 1e-15."""
    inverse_a = tl.where(square_a < 1e-30, 0.0, tl.rsqrt(tl.where(square_a < 1e-30, 1.0, square_a)))
    inverse_b = tl.where(square_b < 1e-30, 0.0, tl.rsqrt(tl.where(square_b < 1e-30, 1.0, square_b)))
    s = product * (inverse_a * inverse_b)
    s = tl.where(s > 1.0, 1.0, s)
    s = tl.where(s < -1.0, -1.0, s)
    return tl.where(same & (s > 0.0), 1.0, s)


def _score(
    agreement: tl.tensor, weight: tl.tensor, energy: tl.tensor, count: tl.tensor, gamma: tl.tensor, tau: tl.tensor
) -> tl.tensor:
    """Q, C and P from sum c_i c_j S_ij, sum c_i c_j, sum c_i^2 and the number of valid answers."""
    c = tl.where(count == 0.0, 0.0, tl.sqrt(energy / tl.where(count == 0.0, 1.0, count)))
    p = tl.where(weight == 0.0, 0.0, agreement / tl.where(weight == 0.0, 1.0, weight))
    farthest = tl.where(tau > 0.5, tau, 1.0 - tau)
    b = 1.0 - tl.abs(p - tau) / farthest
    b = tl.where(b < 0.0, 0.0, b)
    # x^y = 2^(y log2 x), where 0^0 = 1.
    c_part = tl.where(gamma == 0.0, 1.0, tl.exp2(gamma * tl.log2(c)))
    b_part = tl.where(gamma == 1.0, 1.0, tl.exp2((1.0 - gamma) * tl.log2(b)))
    q = tl.where(weight == 0.0, 0.0, c_part * b_part)
    q = tl.where(p != p, p, q)  # noqa: PLR0124 (NaN is what differs from itself)
    q = tl.where(c != c, c, q)  # noqa: PLR0124
    return q, c, p


cosine: Any = jit(_cosine)
score: Any = jit(_score)
cosine_in_triton: Any = triton.jit(_cosine)
score_in_triton: Any = triton.jit(_score)
