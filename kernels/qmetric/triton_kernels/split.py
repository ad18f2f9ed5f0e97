"""The split-K kernel, for small batches: as `streaming.py`, but one program serves one cluster, and its warps divide K.

Latency counts here: the time from the first load to the last store. All loads are issued before the first wait. Then
the warps' partial Gram matrices are summed through shared memory. Up to 16 rows, every warp does the rest on the whole
matrix, with no further barrier; with more rows, its elements are distributed over all threads.
"""

# ruff: noqa: N803, N806, PLR0915 (Triton writes compile-time constants in capitals; a kernel is one function)
from __future__ import annotations

import triton.language as tl

from qmetric.triton_kernels.dialect import (
    accumulator_layout,
    axis0_index,
    axis1_index,
    axis2_index,
    column_index,
    first_half_of_rows,
    jit,
    kernel_entry,
    matrix_layout,
    operand_layout,
    reduce_sum,
    row_index,
    sum_all_elements,
    sum_over_warps,
    zeros,
)
from qmetric.triton_kernels.formula import confidence_terms, cosine, score
from qmetric.triton_kernels.streaming import add_products


@jit
def load(pointers: tl.tensor, keep: tl.tensor, IN_ORDER: tl.constexpr) -> tl.tensor:
    """The values at the pointers, 0 where not kept; IN_ORDER keeps the load where it stands in the program.

    The compiler would move some loads of a small tile behind the first products, and so wait for memory two or three
    times. It keeps the order of volatile loads.
    """
    return tl.load(pointers, mask=keep, other=0, volatile=IN_ORDER)


@jit
def load_answers(
    confidence_ptr: tl.tensor,
    mask_ptr: tl.tensor,
    first_answer: tl.tensor,
    number: tl.tensor,
    answers: tl.tensor,
    IN_ORDER: tl.constexpr,
) -> tl.tensor:
    """For the answers with these numbers in a cluster: which are valid, and their confidences (1 without any)."""
    inside = number < answers
    valid = inside
    confidence = tl.where(inside, 1.0, 0.0)
    if mask_ptr is not None:
        valid = inside & (load(mask_ptr + first_answer + number, inside, IN_ORDER) != 0)
    if confidence_ptr is not None:
        confidence = load(confidence_ptr + first_answer + number, inside, IN_ORDER).to(tl.float32)
    return valid, confidence


@kernel_entry(
    jit,
    not_specialized=("answers",),
    not_specialized_on_alignment=("mask_ptr", "confidence_ptr", "s_ptr", "q_ptr", "c_ptr", "p_ptr"),
)
def split_kernel(
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
    BLOCK_K: tl.constexpr,
    VECTOR: tl.constexpr,
    WARPS: tl.constexpr,
) -> None:
    """As `streaming_kernel`; `batch` is the number of programs."""
    STEP: tl.constexpr = BLOCK_K * WARPS
    # With 64 rows too many loads are in flight for their order to matter, and ordinary ones are faster.
    IN_ORDER: tl.constexpr = ROWS < 64
    EVEN: tl.constexpr = K % STEP == 0
    # Up to 16 rows every warp has the whole Gram matrix; with more, its elements are distributed over all threads.
    REPLICATED: tl.constexpr = ROWS <= 16
    # A matrix unit's tile has 16 rows; of 8 answers it uses half, but all 8 columns.
    TILE: tl.constexpr = ROWS if ROWS > 16 else 16
    # Shorter chains of dependent products: each warp of a small tile has several sums, over different dimensions.
    SUMS: tl.constexpr = 1 if ROWS > 16 else BLOCK_K // (8 * VECTOR)
    PART_K: tl.constexpr = BLOCK_K // SUMS
    # Up to four steps issue all their loads before the first products. Two blocks of 64 rows would not fit into the
    # registers; more steps would stay a loop with one block in flight.
    LOAD_AHEAD: tl.constexpr = ROWS <= 32 and K <= 4 * STEP
    layout: tl.constexpr = accumulator_layout(WARPS)
    operand: tl.constexpr = operand_layout(layout, 0, VECTOR)
    flat: tl.constexpr = matrix_layout(WARPS, REPLICATED)
    cluster = tl.program_id(0)
    first_answer = cluster.to(tl.int64) * answers

    row = row_index(ROWS, flat)
    column = column_index(ROWS, flat)
    row_valid, row_confidence = load_answers(confidence_ptr, mask_ptr, first_answer, row, answers, IN_ORDER)
    column_valid, column_confidence = load_answers(confidence_ptr, mask_ptr, first_answer, column, answers, IN_ORDER)

    part = axis0_index(SUMS * WARPS, operand)
    answer = axis1_index(TILE, operand)
    k = axis2_index(PART_K, operand) + part * PART_K
    inside = (answer < answers) & (answer < ROWS)
    pointers = x_ptr + (first_answer + answer) * K + k
    x = load(pointers, inside if EVEN else inside & (k < K), IN_ORDER)

    gram = zeros(SUMS * WARPS, TILE, ROWS, layout)
    if not LOAD_AHEAD:
        gram = add_products(x, gram, layout, VECTOR)
    for start in range(STEP, K, STEP):
        following = load(pointers + start, inside if EVEN else inside & (k < K - start), IN_ORDER)
        gram = add_products(x if LOAD_AHEAD else following, gram, layout, VECTOR)
        x = following
    if LOAD_AHEAD:
        gram = add_products(x, gram, layout, VECTOR)
    if ROWS < TILE:
        gram = first_half_of_rows(gram)
    if SUMS > 1:
        gram = reduce_sum(tl.reshape(gram, (SUMS, WARPS, ROWS, ROWS)), 0)

    paired = row_valid & column_valid
    if confidence_ptr is not None:
        pair_weight = tl.where(paired & (row < column), row_confidence * column_confidence, 0.0)
        square_sum = reduce_sum(reduce_sum(tl.where(column_valid, column_confidence * column_confidence, 0.0), 1), 0)
        count = answers.to(tl.float32)
        if mask_ptr is not None:
            count = reduce_sum(reduce_sum(tl.where(column_valid, 1.0, 0.0), 1), 0)
        weight_sum = sum_all_elements(pair_weight, WARPS, REPLICATED)
        c, c_power, inverse_weight, inverse_distance = confidence_terms(weight_sum, square_sum, count, gamma, tau)

    full_gram = sum_over_warps(gram, WARPS, REPLICATED)
    s = cosine(full_gram, tl.gather(full_gram, row, 1), tl.gather(full_gram, column, 0), row == column)
    s = tl.where(paired, s, 0.0)
    if s_ptr is not None:
        stored = (row < answers) & (column < answers)
        tl.store(s_ptr + (first_answer + row) * answers + column, s, mask=stored)
    if confidence_ptr is not None:
        # Where the weight is 0, a NaN of S still counts: so does its mirror image, or there is no pair and P is 0.
        similarity_sum = sum_all_elements(pair_weight * s, WARPS, REPLICATED)
        q, p = score(similarity_sum, weight_sum, c_power, inverse_weight, inverse_distance, gamma, tau)
        tl.store(q_ptr + cluster, q)
        tl.store(c_ptr + cluster, c)
        tl.store(p_ptr + cluster, p)
