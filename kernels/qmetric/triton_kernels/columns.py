"""S of `correlation_cosine` by tiles of the correlation matrices C_i = T_i^T T_i [h, h] of all answers at once.

A tile needs the norms of its rows and columns only after its products, so each T_i is read as it is, and the norms
come from the tiles on the diagonal.
"""

# ruff: noqa: N803, N806, RUF005 (Triton writes compile-time constants in capitals and joins tuples with +)
# mypy: disable-error-code="assignment"
# Tuples of tensors grow, one an answer.
from __future__ import annotations

import triton
import triton.language as tl

from qmetric.triton_kernels.dialect import INTERPRETED, Jit, constexpr_function, kernel_entry, loop_bound
from qmetric.triton_kernels.shares import UNWRITTEN_WORD, inverse_norm, publish, write_result

_WIDEN = tl.constexpr(INTERPRETED)  # the interpreter keeps bfloat16 as its bits

jit: Jit = triton.jit


@constexpr_function
def levels(size: int) -> int:
    """The logarithm of a power of two."""
    return size.bit_length() - 1


@jit
def triangle(number: tl.tensor, size: tl.constexpr) -> tl.tensor:
    """Row and column of the number-th of the pairs row < column < size, row by row."""
    row = number * 0
    rest = number
    while rest >= size - 1 - row:
        rest -= size - 1 - row
        row += 1
    return row, row + 1 + rest


@jit
def sum_together(vectors: tl.tensor, COUNT: tl.constexpr, SIZE: tl.constexpr) -> tl.tensor:
    """The sums of COUNT vectors, as a vector of SIZE (a power of two) with zeros behind: one meeting of the warps."""
    level = vectors
    for _ in tl.static_range(COUNT, SIZE):
        level = level + (tl.zeros_like(vectors[0]),)
    for depth in tl.static_range(levels(SIZE)):
        joined = ()
        for i in tl.static_range(SIZE >> (depth + 1)):
            joined = joined + (tl.join(level[i], level[i + (SIZE >> (depth + 1))]),)
        level = joined
    return tl.reshape(tl.sum(level[0], 0), (SIZE,))


@jit
def column_products(
    x_ptrs: tl.tensor,
    lengths: tl.tensor,
    a_column: tl.tensor,
    b_column: tl.tensor,
    H: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_N: tl.constexpr,
    SAME: tl.constexpr,
    EVEN: tl.constexpr,
) -> tl.tensor:
    """For each answer the products of columns `a` with columns `b`, [BLOCK, BLOCK]; SAME when b is a."""
    row = tl.arange(0, BLOCK_N)
    longest = lengths[0]
    accumulators = ()
    for i in tl.static_range(K):
        longest = tl.maximum(longest, lengths[i])
        accumulators = accumulators + (tl.zeros((BLOCK, BLOCK), tl.float32),)
    a_offset = row[:, None] * H + a_column[None, :]
    b_offset = row[:, None] * H + b_column[None, :]
    for start in range(0, loop_bound(longest), BLOCK_N):
        following = ()
        for i in tl.static_range(K):
            keep = (start + row < lengths[i])[:, None]
            base = x_ptrs[i] + start * H
            a = tl.load(base + a_offset, mask=keep if EVEN else keep & (a_column < H)[None, :], other=0.0)
            if SAME:
                b = a
            else:
                b = tl.load(base + b_offset, mask=keep if EVEN else keep & (b_column < H)[None, :], other=0.0)
            if _WIDEN:
                a = a.to(tl.float32)
                b = b.to(tl.float32)
            elif a.dtype == tl.float32:
                a = a.to(tl.bfloat16)
                b = b.to(tl.bfloat16)
            following = following + (tl.dot(tl.trans(a), b, accumulators[i]),)
        accumulators = following
    return accumulators


@jit
def inverse_norms(
    square_ptr: tl.tensor,
    a_first: tl.tensor,
    b_first: tl.tensor,
    K: tl.constexpr,
    ANSWERS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """Wait for the squared norms of columns a and b of each answer; 1 / norm, as K vectors of a and K of b."""
    # Each word is loaded by one thread only: copies of it in two threads could differ.
    answer = tl.arange(0, ANSWERS)[:, None, None]
    side = tl.arange(0, 2)[None, :, None]
    column = tl.arange(0, BLOCK)[None, None, :]
    pointers = square_ptr + answer * WIDTH + tl.where(side == 0, a_first, b_first) + column
    keep = (answer < K) & (side < 2) & (column < BLOCK)
    bits = tl.load(pointers, mask=keep, other=0, volatile=True)
    while tl.sum(tl.sum(tl.sum((bits == UNWRITTEN_WORD).to(tl.int32), 2), 1), 0) > 0:
        bits = tl.load(pointers, mask=keep, other=0, volatile=True)
    inverse = tl.permute(inverse_norm(bits.to(tl.float32, bitcast=True)), (2, 0, 1))
    a, b = tl.split(inverse)
    return take_apart(a, ANSWERS, BLOCK), take_apart(b, ANSWERS, BLOCK)


@jit
def take_apart(x: tl.tensor, COUNT: tl.constexpr, SIZE: tl.constexpr) -> tl.tensor:
    """The COUNT (a power of two) columns of x [SIZE, COUNT]."""
    parts = (x,)
    for depth in tl.static_range(levels(COUNT)):
        halves = ()
        for i in tl.static_range(1 << depth):
            pairs = tl.reshape(parts[i], (SIZE, 2, COUNT >> (depth + 1)))
            first, second = tl.split(tl.permute(pairs, (0, 2, 1)))
            halves = halves + (first, second)
        parts = halves
    columns = ()
    for i in tl.static_range(COUNT):
        columns = columns + (tl.reshape(parts[i], (SIZE,)),)
    return columns


@kernel_entry(
    triton.jit,
    not_specialized=("lengths",),
    not_specialized_on_alignment=("out_ptr",),
)
def columns_kernel(
    out_ptr: tl.tensor,
    x_ptrs: tl.tensor,
    lengths: tl.tensor,
    square_ptr: tl.tensor,
    part_ptr: tl.tensor,
    H: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_N: tl.constexpr,
    ANSWERS: tl.constexpr,
    PAIRS: tl.constexpr,
) -> None:
    """S [K, K] of x_ptrs[i] [lengths[i], H] by tiles [BLOCK, BLOCK] of the C_i.

    `square_ptr`: K times the columns, rounded up to BLOCK; `part_ptr`: PAIRS for each program. The tiles on the
    diagonal come first, and hold the squared norms of the columns, which all others wait for. ANSWERS and PAIRS are
    powers of two, not below K and K (K + 1) / 2.
    """
    SIDE: tl.constexpr = (H + BLOCK - 1) // BLOCK
    WIDTH: tl.constexpr = SIDE * BLOCK
    PROGRAMS: tl.constexpr = SIDE * (SIDE + 1) // 2
    EVEN: tl.constexpr = H % BLOCK == 0
    program = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    on_diagonal = program < SIDE
    a_block = program
    b_block = program
    if on_diagonal:
        # One operand: twice the rows take the same room. So these tiles are done before the others.
        a_column = a_block * BLOCK + column
        accumulators = column_products(x_ptrs, lengths, a_column, a_column, H, K, BLOCK, 2 * BLOCK_N, True, EVEN)
        for i in tl.static_range(K):
            own = tl.where(column[:, None] == column[None, :], accumulators[i], 0.0)
            publish(square_ptr + i * WIDTH + a_column, tl.sum(own, 1), a_column < WIDTH)
    else:
        a_block, b_block = triangle(program - SIDE, SIDE)
        a_column = a_block * BLOCK + column
        b_column = b_block * BLOCK + column
        accumulators = column_products(x_ptrs, lengths, a_column, b_column, H, K, BLOCK, BLOCK_N, False, EVEN)

    a_inverse, b_inverse = inverse_norms(square_ptr, a_block * BLOCK, b_block * BLOCK, K, ANSWERS, WIDTH, BLOCK)
    units = ()
    for i in tl.static_range(K):
        units = units + (accumulators[i] * b_inverse[i][None, :],)
    sums = ()
    for i in tl.static_range(K):
        for j in tl.static_range(i, K):
            sums = sums + (tl.sum(units[i] * units[j], 1) * (a_inverse[i] * a_inverse[j]),)
    # Tiles beside the diagonal stand for their mirror images too.
    total = sum_together(sums, K * (K + 1) // 2, PAIRS) * tl.where(on_diagonal, 1.0, 2.0)
    pair = tl.arange(0, PAIRS)
    publish(part_ptr + program * PAIRS + pair, total, pair < PAIRS)
    if program == PROGRAMS - 1:
        write_result(out_ptr, part_ptr, PROGRAMS, K, PAIRS, 256)
        for first in range(0, K * WIDTH, BLOCK):
            tl.store(square_ptr + first + column, tl.full([BLOCK], UNWRITTEN_WORD, tl.int32))
