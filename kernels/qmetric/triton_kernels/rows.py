"""S of `correlation_cosine` by tiles of the T_i T_j^T [n_i, n_j], where T has unit columns.

Here the norms are needed before the products, so the first programs write the unit columns, and the tiles wait.
"""

# ruff: noqa: N803, N806, PLR0912, PLR0915 (Triton writes compile-time constants in capitals)
from __future__ import annotations

import triton
import triton.language as tl

from qmetric.triton_kernels.dialect import INTERPRETED, Jit, kernel_entry, loop_bound
from qmetric.triton_kernels.shares import UNWRITTEN_WORD, inverse_norm, publish, write_result

_WIDEN = tl.constexpr(INTERPRETED)  # the interpreter keeps bfloat16 as its bits

jit: Jit = triton.jit


@jit
def squares_of_columns(
    x_ptr: tl.tensor, length: tl.tensor, column: tl.tensor, H: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
) -> tl.tensor:
    """The squared norms of some columns of x [length, H]."""
    row = tl.arange(0, ROWS)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for start in range(0, loop_bound(length), ROWS):
        keep = (start + row < length)[:, None] & (column < H)[None, :]
        x = tl.load(x_ptr + (start + row)[:, None] * H + column[None, :], mask=keep, other=0.0).to(tl.float32)
        total += x * x
    return tl.sum(total, 0)


@kernel_entry(
    triton.jit,
    not_specialized=("lengths", "parts"),
    not_specialized_on_alignment=("out_ptr",),
)
def rows_kernel(
    out_ptr: tl.tensor,
    x_ptrs: tl.tensor,
    lengths: tl.tensor,
    unit_ptr: tl.tensor,
    part_ptr: tl.tensor,
    count_ptr: tl.tensor,
    parts: tl.tensor,
    H: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_C: tl.constexpr,
    ROWS: tl.constexpr,
    PAIRS: tl.constexpr,
) -> None:
    """S [K, K] of x_ptrs[i] [lengths[i], H] by tiles [BLOCK, BLOCK] of the T_i T_j^T, of which there are `parts`.

    The first programs write BLOCK_C columns of one answer each, scaled to unit norm, into `unit_ptr`: bfloat16, each
    answer's rows rounded up to BLOCK, the columns to BLOCK_C, zeros in between. They count themselves in `count_ptr`
    [K], from UNWRITTEN on. `part_ptr`: PAIRS for each tile.
    """
    COLUMN_BLOCKS: tl.constexpr = (H + BLOCK_C - 1) // BLOCK_C
    WIDTH: tl.constexpr = COLUMN_BLOCKS * BLOCK_C
    program = tl.program_id(0)
    if program < K * COLUMN_BLOCKS:
        answer = program // COLUMN_BLOCKS
        x_ptr = x_ptrs[0]
        length = lengths[0]
        first_block = 0
        blocks = 0
        for i in tl.static_range(1, K):
            blocks += (lengths[i - 1] + BLOCK - 1) // BLOCK
            if answer == i:
                x_ptr = x_ptrs[i]
                length = lengths[i]
                first_block = blocks
        column = program % COLUMN_BLOCKS * BLOCK_C + tl.arange(0, BLOCK_C)
        inverse = inverse_norm(squares_of_columns(x_ptr, length, column, H, ROWS, BLOCK_C))
        token = tl.arange(0, ROWS)
        padded = (length + BLOCK - 1) // BLOCK * BLOCK
        for start in range(0, loop_bound(padded), ROWS):
            inside = (start + token)[:, None] * H + column[None, :]
            keep = (start + token < length)[:, None] & (column < H)[None, :]
            x = tl.load(x_ptr + inside, mask=keep, other=0.0).to(tl.float32) * inverse[None, :]
            pointers = unit_ptr + first_block * BLOCK * WIDTH + (start + token)[:, None] * WIDTH + column[None, :]
            tl.store(pointers, x.to(tl.bfloat16), mask=(start + token < padded)[:, None])
        tl.debug_barrier()
        tl.atomic_add(count_ptr + answer, 1, sem="release")
    else:
        # Blocks of rows, answer after answer; tile (a, b) has a <= b.
        tile = program - K * COLUMN_BLOCKS
        blocks = 0
        for i in tl.static_range(K):
            blocks += (lengths[i] + BLOCK - 1) // BLOCK
        a_block = 0
        b_block = tile
        while b_block >= blocks - a_block:
            b_block -= blocks - a_block
            a_block += 1
        b_block += a_block
        a_answer = 0
        b_answer = 0
        end = 0
        for i in tl.static_range(K - 1):
            end += (lengths[i] + BLOCK - 1) // BLOCK
            a_answer += (a_block >= end).to(tl.int32)
            b_answer += (b_block >= end).to(tl.int32)
        while tl.load(count_ptr + a_answer, volatile=True) < COLUMN_BLOCKS + UNWRITTEN_WORD:
            pass
        while tl.load(count_ptr + b_answer, volatile=True) < COLUMN_BLOCKS + UNWRITTEN_WORD:
            pass
        tl.atomic_add(count_ptr + a_answer, 0, sem="acquire")
        tl.debug_barrier()
        row = tl.arange(0, BLOCK)
        k = tl.arange(0, BLOCK_H)
        offsets = row[:, None] * WIDTH + k[None, :]
        a_pointers = unit_ptr + a_block * BLOCK * WIDTH + offsets
        b_pointers = unit_ptr + b_block * BLOCK * WIDTH + offsets
        products = tl.zeros((BLOCK, BLOCK), tl.float32)
        for start in range(0, WIDTH, BLOCK_H):
            a = tl.load(a_pointers + start)
            b = tl.load(b_pointers + start)
            if _WIDEN:
                a = a.to(tl.float32)
                b = b.to(tl.float32)
            products = tl.dot(a, tl.trans(b), products)
        # A tile beside the diagonal of one answer's matrix stands for its mirror image too.
        weight = tl.where((a_answer == b_answer) & (a_block != b_block), 2.0, 1.0)
        total = tl.sum(tl.sum(products * products, 1), 0) * weight
        pair = tl.arange(0, PAIRS)
        number = a_answer * K - a_answer * (a_answer - 1) // 2 + b_answer - a_answer
        publish(part_ptr + tile * PAIRS + pair, tl.where(pair == number, total, 0.0), pair < PAIRS)
        if tile == parts - 1:
            write_result(out_ptr, part_ptr, parts, K, PAIRS, 256)
            answer = tl.arange(0, 16)
            tl.store(count_ptr + answer, tl.full([16], UNWRITTEN_WORD, tl.int32), mask=answer < K)
