"""Where the programs of a `correlation_cosine` launch meet: their shares of the sums G_ij, and S of them.

They meet in a workspace whose words say themselves whether they are written: unwritten ones hold UNWRITTEN, a NaN
that no arithmetic gives. A program only waits for programs before it, which the GPU starts first, so waiting never
hangs. The last program adds up, writes S and makes all words UNWRITTEN again for the next launch.
"""

# ruff: noqa: N803, N806 (Triton writes compile-time constants in capitals)
from __future__ import annotations

import triton
import triton.language as tl

from qmetric.triton_kernels.dialect import Jit, loop_bound

UNWRITTEN = -1  # as an int32
UNWRITTEN_WORD = tl.constexpr(UNWRITTEN)
_ORDINARY_NAN = tl.constexpr(0x7FC00000)

jit: Jit = triton.jit


@jit
def publish(pointers: tl.tensor, values: tl.tensor, keep: tl.tensor) -> None:
    """Write float32 values as words of the workspace."""
    bits = values.to(tl.int32, bitcast=True)
    tl.store(pointers, tl.where(bits == UNWRITTEN_WORD, _ORDINARY_NAN, bits), mask=keep)


@jit
def inverse_norm(square: tl.tensor) -> tl.tensor:
    """1 / sqrt(square), 0 for the zero vector; NaN stays NaN."""
    return tl.where(square < 1e-30, 0.0, tl.rsqrt(square))


@jit
def write_result(
    out_ptr: tl.tensor,
    part_ptr: tl.tensor,
    parts: tl.tensor,
    K: tl.constexpr,
    PAIRS: tl.constexpr,
    CHUNK: tl.constexpr,
) -> None:
    """Wait for the [parts, PAIRS] shares of G, add them up, clear them, and write S [K, K]."""
    part = tl.arange(0, CHUNK)
    pair = tl.arange(0, PAIRS)
    g = tl.zeros([PAIRS], tl.float32)
    for first in range(0, loop_bound(parts), CHUNK):
        keep = (first + part < parts)[:, None] & (pair < PAIRS)[None, :]
        pointers = part_ptr + (first + part)[:, None] * PAIRS + pair[None, :]
        bits = tl.load(pointers, mask=keep, other=0, volatile=True)
        while tl.sum(tl.sum((bits == UNWRITTEN_WORD).to(tl.int32), 1), 0) > 0:
            bits = tl.load(pointers, mask=keep, other=0, volatile=True)
        g += tl.sum(bits.to(tl.float32, bitcast=True), 0)
        tl.store(pointers, tl.full([CHUNK, PAIRS], UNWRITTEN_WORD, tl.int32), mask=keep)
    # Pair (i, j), i <= j, is number i K - i (i - 1) / 2 + j - i.
    SIDE: tl.constexpr = PAIRS if PAIRS < 16 else 16
    element = tl.arange(0, SIDE * SIDE)
    a = element // SIDE
    b = element % SIDE
    inside = (a < K) & (b < K)
    low = tl.where(inside, tl.minimum(a, b), 0)
    high = tl.where(inside, tl.maximum(a, b), 0)
    product = tl.gather(g, low * K - low * (low - 1) // 2 + high - low, 0)
    square_a = tl.gather(g, low * K - low * (low - 1) // 2, 0)
    square_b = tl.gather(g, high * K - high * (high - 1) // 2, 0)
    s = product * inverse_norm(square_a) * inverse_norm(square_b)
    s = tl.where(s > 1.0, 1.0, s)
    s = tl.where((low == high) & (s > 0.0), 1.0, s)
    tl.store(out_ptr + a * K + b, s, mask=inside)
