"""The kernel for small batches: as `gram.py`, but one program serves one cluster and its warps divide the dimensions.

What counts is the way from the first load to the last store. All that is read is asked for at once, before anything is
waited for. Then the warps' partial Gram matrices meet in shared memory. Up to 16 rows, what follows is done by every
warp on the whole matrix, with no further wait for another warp; of more, it is dealt to all threads, with less
arithmetic for each.
"""

# ruff: noqa: N803, N806, PLR0915 (Triton writes compile-time constants in capitals; a kernel is one function)
from __future__ import annotations

import triton.language as tl

from qmetric.dialect import (
    accumulator_layout,
    along_columns,
    along_rows,
    entry,
    first_axis,
    flat_layout,
    jit,
    meet,
    operand_layout,
    second_axis,
    sum_of_all,
    third_axis,
    total,
    upper_half,
    zeros,
)
from qmetric.formula import confidence_terms, cosine, score
from qmetric.gram import add_products


@jit
def load(pointers: tl.tensor, keep: tl.tensor, IN_ORDER: tl.constexpr) -> tl.tensor:
    """What the pointers show, 0 where not kept; in order, in its place in the text.

    The compiler would put some loads of a small tile behind the first products, and so wait for memory two or three
    times. It keeps the order of volatile ones.
    """
    return tl.load(pointers, mask=keep, other=0, volatile=IN_ORDER)


@jit
def load_answers(
    weight_ptr: tl.tensor,
    mask_ptr: tl.tensor,
    first_answer: tl.tensor,
    number: tl.tensor,
    answers: tl.tensor,
    IN_ORDER: tl.constexpr,
) -> tl.tensor:
    """Which of the numbered answers of a cluster are valid, and their confidences (none: 1)."""
    inside = number < answers
    valid = inside
    weight = tl.where(inside, 1.0, 0.0)
    if mask_ptr is not None:
        valid = inside & (load(mask_ptr + first_answer + number, inside, IN_ORDER) != 0)
    if weight_ptr is not None:
        weight = load(weight_ptr + first_answer + number, inside, IN_ORDER).to(tl.float32)
    return valid, weight


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
) -> None:
    """As `gram_kernel`; `batch` is the number of programs."""
    STEP: tl.constexpr = BLOCK_K * WARPS
    # 64 rows have too many loads on the way for their order to matter, and ordinary ones are faster.
    IN_ORDER: tl.constexpr = ROWS < 64
    EVEN: tl.constexpr = K % STEP == 0
    # Of few rows every warp has the whole Gram matrix; of more, its elements are dealt to all threads.
    WHOLE: tl.constexpr = ROWS <= 16
    # A matrix unit's tile has 16 rows; of 8 answers it uses half, but all 8 columns.
    TILE: tl.constexpr = ROWS if ROWS > 16 else 16
    # Few products follow on each other: a small tile has several sums, over different dimensions, in each warp.
    SUMS: tl.constexpr = 1 if ROWS > 16 else BLOCK_K // (8 * VECTOR)
    PART_K: tl.constexpr = BLOCK_K // SUMS
    # Ahead of the products, a few steps' loads all start before the first wait. Of 64 rows two blocks would not fit
    # into the registers; more steps than these the compiler would leave as a loop with one block on the way.
    AHEAD: tl.constexpr = ROWS <= 32 and K <= 4 * STEP
    layout: tl.constexpr = accumulator_layout(WARPS)
    operand: tl.constexpr = operand_layout(layout, 0, VECTOR)
    flat: tl.constexpr = flat_layout(WARPS, WHOLE)
    cluster = tl.program_id(0)
    first_answer = cluster.to(tl.int64) * answers

    row = along_rows(ROWS, flat)
    column = along_columns(ROWS, flat)
    row_valid, row_weight = load_answers(weight_ptr, mask_ptr, first_answer, row, answers, IN_ORDER)
    column_valid, column_weight = load_answers(weight_ptr, mask_ptr, first_answer, column, answers, IN_ORDER)

    part = first_axis(SUMS * WARPS, operand)
    answer = second_axis(TILE, operand)
    k = third_axis(PART_K, operand) + part * PART_K
    inside = (answer < answers) & (answer < ROWS)
    pointers = x_ptr + (first_answer + answer) * K + k
    x = load(pointers, inside if EVEN else inside & (k < K), IN_ORDER)

    gram = zeros(SUMS * WARPS, TILE, ROWS, layout)
    if not AHEAD:
        gram = add_products(x, gram, layout, VECTOR)
    for start in range(STEP, K, STEP):
        following = load(pointers + start, inside if EVEN else inside & (k < K - start), IN_ORDER)
        gram = add_products(x if AHEAD else following, gram, layout, VECTOR)
        x = following
    if AHEAD:
        gram = add_products(x, gram, layout, VECTOR)
    if ROWS < TILE:
        gram = upper_half(gram)
    if SUMS > 1:
        gram = total(tl.reshape(gram, (SUMS, WARPS, ROWS, ROWS)), 0)

    paired = row_valid & column_valid
    if weight_ptr is not None:
        product = tl.where(paired & (row < column), row_weight * column_weight, 0.0)
        energy = total(total(tl.where(column_valid, column_weight * column_weight, 0.0), 1), 0)
        count = answers.to(tl.float32)
        if mask_ptr is not None:
            count = total(total(tl.where(column_valid, 1.0, 0.0), 1), 0)
        weight = sum_of_all(product, WARPS, WHOLE)
        c, c_part, per_weight, per_distance = confidence_terms(weight, energy, count, gamma, tau)

    whole = meet(gram, WARPS, WHOLE)
    s = cosine(whole, tl.gather(whole, row, 1), tl.gather(whole, column, 0), row == column)
    s = tl.where(paired, s, 0.0)
    if s_ptr is not None:
        stored = (row < answers) & (column < answers)
        tl.store(s_ptr + (first_answer + row) * answers + column, s, mask=stored)
    if weight_ptr is not None:
        # Where the product is 0, a NaN of S still counts: its mirror does too, or there is no pair and P is 0.
        agreement = sum_of_all(product * s, WARPS, WHOLE)
        q, p = score(agreement, weight, c_part, per_weight, per_distance, gamma, tau)
        tl.store(q_ptr + cluster, q)
        tl.store(c_ptr + cluster, c)
        tl.store(p_ptr + cluster, p)
