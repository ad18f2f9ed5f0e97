"""The kernel for small batches: as `gram.py`, but one program serves one cluster and its warps divide the dimensions.

What counts is the way from the first load to the last store. The embeddings are asked for first; everything that needs
only confidences happens while they travel. Then the warps' partial Gram matrices meet in shared memory and are spread
over all threads, so that no warp repeats another's arithmetic.
"""

# ruff: noqa: N803, N806 (Triton writes compile-time constants in capitals)
from __future__ import annotations

import triton.language as tl

from qmetric.dialect import (
    accumulator_layout,
    along_columns,
    along_rows,
    entry,
    first_axis,
    jit,
    operand_layout,
    repeated_layout,
    second_axis,
    spread,
    spread_layout,
    third_axis,
    total,
    turn,
    zeros,
)
from qmetric.formula import cosine, score
from qmetric.gram import add_products, load_block


@jit
def pairs(
    weight_ptr: tl.tensor,
    mask_ptr: tl.tensor,
    first_answer: tl.tensor,
    answers: tl.tensor,
    ROWS: tl.constexpr,
    layout: tl.constexpr,
) -> tl.tensor:
    """Row and column numbers of the pairs of a cluster, which of them are valid, and c_i c_j of those (else 0)."""
    row = along_rows(ROWS, layout)
    column = along_columns(ROWS, layout)
    row_valid = row < answers
    column_valid = column < answers
    if mask_ptr is not None:
        row_valid = row_valid & (tl.load(mask_ptr + first_answer + row, mask=row_valid, other=0) != 0)
        column_valid = column_valid & (tl.load(mask_ptr + first_answer + column, mask=column_valid, other=0) != 0)
    paired = row_valid & column_valid
    product = tl.where(paired, 1.0, 0.0)
    if weight_ptr is not None:
        row_weight = tl.load(weight_ptr + first_answer + row, mask=row_valid, other=0.0).to(tl.float32)
        column_weight = tl.load(weight_ptr + first_answer + column, mask=column_valid, other=0.0).to(tl.float32)
        product = tl.where(paired, row_weight * column_weight, 0.0)
    return row, column, paired, product


@entry(
    jit,
    any_value=("answers",),
    any_alignment=("mask_ptr", "weight_ptr", "s_ptr", "q_ptr", "c_ptr", "p_ptr"),
)
def split_kernel(
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
    BLOCK_K: tl.constexpr,
    VECTOR: tl.constexpr,
    WARPS: tl.constexpr,
    CACHE: tl.constexpr,
    EVICT: tl.constexpr,
) -> None:
    """As `gram_kernel`; `batch` is the number of programs."""
    STEP: tl.constexpr = BLOCK_K * WARPS
    EVEN: tl.constexpr = K % STEP == 0
    layout: tl.constexpr = accumulator_layout(WARPS)
    operand: tl.constexpr = operand_layout(layout, 0, VECTOR)
    flat: tl.constexpr = spread_layout(WARPS)
    cluster = tl.program_id(0)
    first_answer = cluster.to(tl.int64) * answers

    part = first_axis(WARPS, operand)
    answer = second_axis(ROWS, operand)
    k = third_axis(BLOCK_K, operand) + part * BLOCK_K
    inside = answer < answers
    pointers = x_ptr + (first_answer + answer) * K + k
    x = load_block(pointers, inside, k, 0, K, EVEN, CACHE, EVICT)

    if weight_ptr is not None:
        # In tiles of 16 it is cheaper for every warp to sum all pairs than for the warps to meet.
        sums: tl.constexpr = repeated_layout(WARPS) if ROWS == 16 else flat
        FIRST: tl.constexpr = 0 if ROWS == 16 else 1  # the axis of which a thread, or else a warp, has the most
        row, column, paired, product = pairs(weight_ptr, mask_ptr, first_answer, answers, ROWS, sums)
        weight = total(total(tl.where(row < column, product, 0.0), FIRST), 0)
        energy = total(total(tl.where(row == column, product, 0.0), FIRST), 0)
        count = total(total(tl.where(paired & (row == column), 1.0, 0.0), FIRST), 0)
    row, column, paired, product = pairs(weight_ptr, mask_ptr, first_answer, answers, ROWS, flat)

    gram = add_products(x, zeros(WARPS, ROWS, ROWS, layout), layout, VECTOR)
    for start in range(STEP, K, STEP):
        x = load_block(pointers, inside, k, start, K, EVEN, CACHE, EVICT)
        gram = add_products(x, gram, layout, VECTOR)
    whole = total(spread(gram, WARPS), 0)

    squares = total(tl.where(row == column, whole, 0.0), 1)
    s = cosine(whole, squares[:, None], turn(squares, flat)[None, :], row == column)
    s = tl.where(paired, s, 0.0)
    if s_ptr is not None:
        stored = (row < answers) & (column < answers)
        tl.store(s_ptr + (first_answer + row) * answers + column, s, mask=stored)
    if weight_ptr is not None:
        agreement = total(total(tl.where(row < column, product * s, 0.0), 1), 0)
        q, c, p = score(agreement, weight, energy, count, gamma, tau)
        tl.store(q_ptr + cluster, q)
        tl.store(c_ptr + cluster, c)
        tl.store(p_ptr + cluster, p)
