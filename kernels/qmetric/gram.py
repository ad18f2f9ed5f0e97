"""The streaming kernel: pairwise Frobenius cosines of each cluster's answers and, on request, its whole Q-metric.

One warp holds one tile of ROWS answers, `ROWS // WIDTH` clusters of up to WIDTH answers each, and its Gram matrix
G = X X^T in registers; the diagonal of G holds the squared norms, so each embedding is read once. Small batches, which
would leave most of the GPU idle this way, have `split_kernel.py`.
"""

# ruff: noqa: N803, N806, PLR0915 (Triton writes compile-time constants in capitals; a kernel is one function)
from __future__ import annotations

import triton.language as tl

from qmetric.dialect import (
    accumulator_layout,
    entry,
    first_axis,
    jit,
    multiply_transposed,
    operand_layout,
    second_axis,
    third_axis,
    total,
    zeros,
)
from qmetric.formula import confidence_terms, cosine, score


@jit
def add_products(x: tl.tensor, sums: tl.tensor, layout: tl.constexpr, vector: tl.constexpr) -> tl.tensor:
    """Sums + x @ x^T to float32 accuracy; sums of 8 columns take 8 of the 16 rows for x^T."""
    if x.dtype == tl.float32:
        # tf32 keeps 11 significant bits: a float32 is the sum of two of them up to 2^-22 of its value.
        high = (x.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
        low = x - high
        sums = multiply_transposed(high, low, sums, layout, vector)
        sums = multiply_transposed(low, high, sums, layout, vector)
        sums = multiply_transposed(high, high, sums, layout, vector)
    else:
        sums = multiply_transposed(x, x, sums, layout, vector)
    return sums


@jit
def load_block(
    pointers: tl.tensor,
    inside: tl.tensor,
    k: tl.tensor,
    start: tl.tensor,
    K: tl.constexpr,
    EVEN: tl.constexpr,
    CACHE: tl.constexpr,
    EVICT: tl.constexpr,
) -> tl.tensor:
    """The tile's next dimensions; rows that hold no answer are zero and cost no bytes."""
    keep = inside if EVEN else inside & (k < K - start)
    return tl.load(pointers + start, mask=keep, other=0.0, cache_modifier=CACHE, eviction_policy=EVICT)


@jit
def per_cluster(rows: tl.tensor, TILES: tl.constexpr, PACK: tl.constexpr, WIDTH: tl.constexpr) -> tl.tensor:
    """Sums of [TILES, PACK * WIDTH] over each cluster's rows: [TILES, PACK]."""
    return total(tl.reshape(rows, (TILES, PACK, WIDTH)), 2)


@entry(
    jit,
    any_value=("batch", "answers"),
    any_alignment=("mask_ptr", "weight_ptr", "s_ptr", "q_ptr", "c_ptr", "p_ptr"),
)
def gram_kernel(
    x_ptr: tl.tensor,
    mask_ptr: tl.tensor,
    weight_ptr: tl.tensor,
    s_ptr: tl.tensor,
    q_ptr: tl.tensor,
    c_ptr: tl.tensor,
    p_ptr: tl.tensor,
    batch: tl.tensor,
    answers: tl.tensor,
    gamma: tl.tensor,
    tau: tl.tensor,
    K: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_K: tl.constexpr,
    VECTOR: tl.constexpr,
    WARPS: tl.constexpr,
    PREFETCH: tl.constexpr,
    CACHE: tl.constexpr,
    EVICT: tl.constexpr,
) -> None:
    """S, and Q, C, P of `formula.py`, of x[batch, answers, K]; a pointer that is None is not wanted or not given."""
    PACK: tl.constexpr = ROWS // WIDTH
    EVEN: tl.constexpr = K % BLOCK_K == 0
    layout: tl.constexpr = accumulator_layout(WARPS)
    operand: tl.constexpr = operand_layout(layout, 0, VECTOR)
    program = tl.program_id(0)

    # Answers along the accumulator's rows and columns. Their confidences and mask are fetched before the embeddings,
    # whose latency then hides theirs.
    tile = program * WARPS + first_axis(WARPS, layout)
    row = second_axis(ROWS, layout)
    column = third_axis(ROWS, layout)
    row_cluster = tile * PACK + row // WIDTH
    column_cluster = tile * PACK + column // WIDTH
    row_inside = (row % WIDTH < answers) & (row_cluster < batch)
    column_inside = (column % WIDTH < answers) & (column_cluster < batch)
    row_answer = row_cluster.to(tl.int64) * answers + row % WIDTH
    column_answer = column_cluster.to(tl.int64) * answers + column % WIDTH
    row_valid = row_inside
    column_valid = column_inside
    if mask_ptr is not None:
        row_valid = row_inside & (tl.load(mask_ptr + row_answer, mask=row_inside, other=0) != 0)
        column_valid = column_inside & (tl.load(mask_ptr + column_answer, mask=column_inside, other=0) != 0)
    if weight_ptr is not None:
        row_weight = tl.load(weight_ptr + row_answer, mask=row_inside, other=0.0).to(tl.float32)
        column_weight = tl.load(weight_ptr + column_answer, mask=column_inside, other=0.0).to(tl.float32)

    # Answers along the rows of the operand that is loaded.
    part = first_axis(WARPS, operand)
    answer = second_axis(ROWS, operand)
    k = third_axis(BLOCK_K, operand)
    cluster = (program * WARPS + part) * PACK + answer // WIDTH
    inside = (answer % WIDTH < answers) & (cluster < batch)
    pointers = x_ptr + (cluster.to(tl.int64) * answers + answer % WIDTH) * K + k

    gram = zeros(WARPS, ROWS, ROWS, layout)
    if PREFETCH:
        x = load_block(pointers, inside, k, 0, K, EVEN, CACHE, EVICT)
        for start in range(BLOCK_K, K, BLOCK_K):
            following = load_block(pointers, inside, k, start, K, EVEN, CACHE, EVICT)
            gram = add_products(x, gram, layout, VECTOR)
            x = following
        gram = add_products(x, gram, layout, VECTOR)
    else:
        for start in range(0, K, BLOCK_K):
            x = load_block(pointers, inside, k, start, K, EVEN, CACHE, EVICT)
            gram = add_products(x, gram, layout, VECTOR)

    diagonal = tl.where(row == column, gram, 0.0)
    s = cosine(gram, total(diagonal, 2)[:, :, None], total(diagonal, 1)[:, None, :], row == column)
    paired = (row // WIDTH == column // WIDTH) & row_valid & column_valid
    s = tl.where(paired, s, 0.0)
    if s_ptr is not None:
        stored = (row // WIDTH == column // WIDTH) & row_inside & column_inside
        tl.store(s_ptr + row_answer * answers + column % WIDTH, s, mask=stored)

    if weight_ptr is not None:
        counted = paired & (row < column)
        agreements = total(tl.where(counted, row_weight * column_weight * s, 0.0), 2)
        weights = total(tl.where(counted, row_weight * column_weight, 0.0), 2)
        energies = total(tl.where(row_valid, row_weight * row_weight, 0.0), 2)
        counts = total(tl.where(row_valid, 1.0, 0.0), 2)
        weight = per_cluster(weights, WARPS, PACK, WIDTH)
        energy = per_cluster(energies, WARPS, PACK, WIDTH)
        count = per_cluster(counts, WARPS, PACK, WIDTH)
        c, c_part, per_weight, per_distance = confidence_terms(weight, energy, count, gamma, tau)
        agreement = per_cluster(agreements, WARPS, PACK, WIDTH)
        q, p = score(agreement, weight, c_part, per_weight, per_distance, gamma, tau)
        # The cluster's number by the same sums as its figures, and so in the same layout.
        owner = per_cluster(total(tl.where(row % WIDTH == 0, row_cluster, 0), 2), WARPS, PACK, WIDTH)
        tl.store(q_ptr + owner, q, mask=owner < batch)
        tl.store(c_ptr + owner, c, mask=owner < batch)
        tl.store(p_ptr + owner, p, mask=owner < batch)
