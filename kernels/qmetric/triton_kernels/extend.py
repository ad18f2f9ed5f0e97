"""The kernel of the incremental form: one new answer against those that a cluster already has.

One program serves one cluster. The new row of S needs k inner products, not a matrix product, so this is plain Triton:
products and sums in float32, the old answers' norms from the same read.
"""

# ruff: noqa: N803 (Triton writes compile-time constants in capitals)
from __future__ import annotations

import triton
import triton.language as tl

from qmetric.triton_kernels.dialect import kernel_entry
from qmetric.triton_kernels.formula import confidence_terms_in_triton, cosine_in_triton, score_in_triton


@kernel_entry(
    triton.jit,
    not_specialized=("capacity", "count"),
    not_specialized_on_alignment=(
        "confidence_ptr",
        "mask_ptr",
        "s_ptr",
        "new_confidence_ptr",
        "valid_ptr",
        "q_ptr",
        "c_ptr",
        "p_ptr",
    ),
)
def extend_kernel(
    x_ptr: tl.tensor,
    confidence_ptr: tl.tensor,
    mask_ptr: tl.tensor,
    s_ptr: tl.tensor,
    new_ptr: tl.tensor,
    new_confidence_ptr: tl.tensor,
    valid_ptr: tl.tensor,
    q_ptr: tl.tensor,
    c_ptr: tl.tensor,
    p_ptr: tl.tensor,
    capacity: tl.tensor,
    count: tl.tensor,
    gamma: tl.tensor,
    tau: tl.tensor,
    K: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> None:
    """Append new[cluster, K] as answer `count` of x[cluster, capacity, K] and update S, Q, C, P."""
    cluster = tl.program_id(0).to(tl.int64)
    row = tl.arange(0, ROWS)
    old = row < count
    first = cluster * capacity

    new_confidence = tl.load(new_confidence_ptr + cluster).to(tl.float32)
    new_valid = cluster >= 0
    if valid_ptr is not None:
        new_valid = tl.load(valid_ptr + cluster) != 0
    confidence = tl.load(confidence_ptr + first + row, mask=old, other=0.0).to(tl.float32)
    valid = old & (tl.load(mask_ptr + first + row, mask=old, other=0) != 0)
    pairs = (first + row)[:, None] * capacity + row[None, :]
    old_s = tl.load(s_ptr + pairs, mask=old[:, None] & old[None, :], other=0.0)

    products = tl.zeros([ROWS, BLOCK_K], tl.float32)
    squares = tl.zeros([ROWS, BLOCK_K], tl.float32)
    new_squares = tl.zeros([BLOCK_K], tl.float32)
    for start in range(0, K, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        new = tl.load(new_ptr + cluster * K + k, mask=k < K, other=0.0)
        tl.store(x_ptr + (first + count) * K + k, new.to(x_ptr.dtype.element_ty), mask=k < K)
        x = tl.load(x_ptr + (first + row)[:, None] * K + k[None, :], mask=old[:, None] & (k < K)[None, :], other=0.0)
        x = x.to(tl.float32)
        new = new.to(tl.float32)
        products += x * new[None, :]
        squares += x * x
        new_squares += new * new

    new_square = tl.sum(new_squares, 0)
    is_new = row == count
    product = tl.where(is_new, new_square, tl.sum(products, 1))
    square = tl.where(is_new, new_square, tl.sum(squares, 1))
    s = cosine_in_triton(product, square, new_square, is_new)
    s = tl.where((valid | is_new) & new_valid, s, 0.0)
    tl.store(s_ptr + (first + count) * capacity + row, s, mask=row <= count)
    tl.store(s_ptr + (first + row) * capacity + count, s, mask=old)
    tl.store(confidence_ptr + first + count, new_confidence.to(confidence_ptr.dtype.element_ty))
    tl.store(mask_ptr + first + count, new_valid)

    old_pair = (row[:, None] < row[None, :]) & valid[:, None] & valid[None, :]
    old_pair_weight = confidence[:, None] * confidence[None, :]
    paired = valid & new_valid
    similarity_sum = tl.sum(tl.sum(tl.where(old_pair, old_pair_weight * old_s, 0.0), 1), 0)
    similarity_sum += tl.sum(tl.where(paired, confidence * new_confidence * s, 0.0), 0)
    weight_sum = tl.sum(tl.sum(tl.where(old_pair, old_pair_weight, 0.0), 1), 0)
    weight_sum += tl.sum(tl.where(paired, confidence * new_confidence, 0.0), 0)
    square_sum = tl.sum(tl.where(valid, confidence * confidence, 0.0), 0)
    square_sum += tl.where(new_valid, new_confidence * new_confidence, 0.0)
    count_valid = tl.sum(tl.where(valid, 1.0, 0.0), 0) + tl.where(new_valid, 1.0, 0.0)
    c, c_power, inverse_weight, inverse_distance = confidence_terms_in_triton(
        weight_sum, square_sum, count_valid, gamma, tau
    )
    q, p = score_in_triton(similarity_sum, weight_sum, c_power, inverse_weight, inverse_distance, gamma, tau)
    tl.store(q_ptr + cluster, q)
    tl.store(c_ptr + cluster, c)
    tl.store(p_ptr + cluster, p)
