"""The streaming kernel: pairwise Frobenius cosines of each cluster's answers and, on request, its whole Q-metric.

One warp holds one tile of ROWS answers, `ROWS // WIDTH` clusters of up to WIDTH answers each, and its Gram matrix
G = X X^T in registers; the diagonal of G holds the squared norms, so each embedding is read once. Small batches, which
would leave most of the GPU idle this way, have `split.py`.
"""

# ruff: noqa: N803, N806, PLR0915 (Triton writes compile-time constants in capitals; a kernel is one function)
from __future__ import annotations

import triton.language as tl

from qmetric.triton_kernels.dialect import (
    accumulator_layout,
    axis0_index,
    axis1_index,
    axis2_index,
    jit,
    kernel_entry,
    multiply_transposed,
    operand_layout,
    reduce_sum,
    zeros,
)
from qmetric.triton_kernels.formula import confidence_terms, cosine, score


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
    """The tile's next BLOCK_K dimensions; rows without an answer are zero and read nothing."""
    keep = inside if EVEN else inside & (k < K - start)
    return tl.load(pointers + start, mask=keep, other=0.0, cache_modifier=CACHE, eviction_policy=EVICT)


@jit
def per_cluster(rows: tl.tensor, TILES: tl.constexpr, PACK: tl.constexpr, WIDTH: tl.constexpr) -> tl.tensor:
    """Sums of [TILES, PACK * WIDTH] over each cluster's rows: [TILES, PACK]."""
    return reduce_sum(tl.reshape(rows, (TILES, PACK, WIDTH)), 2)


@kernel_entry(
    jit,
    not_specialized=("batch", "answers"),
    not_specialized_on_alignment=("mask_ptr", "confidence_ptr", "s_ptr", "q_ptr", "c_ptr", "p_ptr"),
)
def streaming_kernel(
    x_ptr: tl.tensor,
    mask_ptr: tl.tensor,
    confidence_ptr: tl.tensor,
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
    """S, and Q, C and P, of x[batch, answers, K]; outputs whose pointer is None are not written, inputs not read."""
    PACK: tl.constexpr = ROWS // WIDTH
    EVEN: tl.constexpr = K % BLOCK_K == 0
    layout: tl.constexpr = accumulator_layout(WARPS)
    operand: tl.constexpr = operand_layout(layout, 0, VECTOR)
    program = tl.program_id(0)

    # Answers along the accumulator's rows and columns. Their confidences and mask are loaded before the embeddings,
    # whose latency then hides theirs.
    tile = program * WARPS + axis0_index(WARPS, layout)
    row = axis1_index(ROWS, layout)
    column = axis2_index(ROWS, layout)
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
    if confidence_ptr is not None:
        row_confidence = tl.load(confidence_ptr + row_answer, mask=row_inside, other=0.0).to(tl.float32)
        column_confidence = tl.load(confidence_ptr + column_answer, mask=column_inside, other=0.0).to(tl.float32)

    # Answers along the rows of the matrix unit's first operand, which is loaded.
    part = axis0_index(WARPS, operand)
    answer = axis1_index(ROWS, operand)
    k = axis2_index(BLOCK_K, operand)
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
    s = cosine(gram, reduce_sum(diagonal, 2)[:, :, None], reduce_sum(diagonal, 1)[:, None, :], row == column)
    paired = (row // WIDTH == column // WIDTH) & row_valid & column_valid
    s = tl.where(paired, s, 0.0)
    if s_ptr is not None:
        stored = (row // WIDTH == column // WIDTH) & row_inside & column_inside
        tl.store(s_ptr + row_answer * answers + column % WIDTH, s, mask=stored)

    if confidence_ptr is not None:
        pair = paired & (row < column)
        row_similarity_sums = reduce_sum(tl.where(pair, row_confidence * column_confidence * s, 0.0), 2)
        row_weight_sums = reduce_sum(tl.where(pair, row_confidence * column_confidence, 0.0), 2)
        row_squares = reduce_sum(tl.where(row_valid, row_confidence * row_confidence, 0.0), 2)
        row_counts = reduce_sum(tl.where(row_valid, 1.0, 0.0), 2)
        weight_sum = per_cluster(row_weight_sums, WARPS, PACK, WIDTH)
        square_sum = per_cluster(row_squares, WARPS, PACK, WIDTH)
        count = per_cluster(row_counts, WARPS, PACK, WIDTH)
        c, c_power, inverse_weight, inverse_distance = confidence_terms(weight_sum, square_sum, count, gamma, tau)
        similarity_sum = per_cluster(row_similarity_sums, WARPS, PACK, WIDTH)
        q, p = score(similarity_sum, weight_sum, c_power, inverse_weight, inverse_distance, gamma, tau)
        # The cluster's number by the same sums as its results, and so in the same layout.
        cluster_index = per_cluster(reduce_sum(tl.where(row % WIDTH == 0, row_cluster, 0), 2), WARPS, PACK, WIDTH)
        tl.store(q_ptr + cluster_index, q, mask=cluster_index < batch)
        tl.store(c_ptr + cluster_index, c, mask=cluster_index < batch)
        tl.store(p_ptr + cluster_index, p, mask=cluster_index < batch)
