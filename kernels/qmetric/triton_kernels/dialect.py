"""The functions in which Gluon, Triton and Triton's interpreter differ, so that each kernel is written once.

The kernels choose their register layout, which only Gluon (Triton's lower dialect) allows: loaded in the layout of a
matrix unit's first operand, a tile of rows X is, without moving a bit, also the second operand X^T, so that X X^T needs
neither shared memory nor shuffles. Under `TRITON_INTERPRET=1`, and with `QMETRIC_DIALECT=triton`, the same kernel text
runs as plain Triton, and the compiler (or numpy) chooses the layout.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl
from triton import knobs
from triton.language.extra.cuda import libdevice

DIALECT = "triton" if knobs.runtime.interpret else os.environ.get("QMETRIC_DIALECT", "gluon")

Jit = Callable[..., Any]
jit: Jit
constexpr_function: Jit = triton.constexpr_function
INTERPRETED: bool = knobs.runtime.interpret


def kernel_entry(
    compiler: Jit, *, not_specialized: tuple[str, ...] = (), not_specialized_on_alignment: tuple[str, ...] = ()
) -> Callable[[Callable[..., None]], Any]:
    """The decorator of a kernel that `launcher.py` launches.

    The launcher reuses a compiled kernel for all arguments of the same types, so the values of the arguments in
    `not_specialized`, and the alignment of the pointers in `not_specialized_on_alignment`, must not be compiled in.
    """
    decorate: Callable[[Callable[..., None]], Any] = compiler(
        do_not_specialize=not_specialized, do_not_specialize_on_alignment=not_specialized_on_alignment
    )
    return decorate


def _log2(x: tl.tensor) -> tl.tensor:
    return tl.log2(x)


# One instruction, accurate to 2^-22; the interpreter does not have it.
log2: Any = triton.jit(_log2) if INTERPRETED else libdevice.fast_log2f


def _python_int(x: Any) -> int:
    return x if isinstance(x, int) else int(x.handle.data.item())


def _unchanged(x: tl.tensor) -> tl.tensor:
    return x


# The interpreter keeps scalars as arrays of one element, which `range` does not take.
loop_bound: Any = _python_int if INTERPRETED else triton.jit(_unchanged)

if DIALECT == "gluon":
    from triton.experimental import gluon
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon.language.nvidia.ampere import mma_v2

    jit = gluon.jit
    reduce_sum: Any = gl.sum

    @constexpr_function
    def accumulator_layout(warps: int) -> Any:
        """The layout of a [warps, rows, rows] accumulator: one warp holds one [rows, rows] product."""
        return gl.NVMMADistributedLayout(version=[2, 0], warps_per_cta=[warps, 1, 1], instr_shape=[1, 16, 8])

    @constexpr_function
    def operand_layout(accumulator: Any, index: int, vector: int) -> Any:
        """The layout of a matrix unit's operand in which a thread holds `vector` consecutive numbers of a row."""
        return gl.DotOperandLayout(operand_index=index, parent=accumulator, k_width=vector)

    @jit
    def axis0_index(size: tl.constexpr, layout: tl.constexpr) -> tl.tensor:
        """0 .. size-1 as a [size, 1, 1] tensor."""
        return gl.arange(0, size, layout=gl.SliceLayout(1, gl.SliceLayout(2, layout)))[:, None, None]

    @jit
    def axis1_index(size: tl.constexpr, layout: tl.constexpr) -> tl.tensor:
        """0 .. size-1 as a [1, size, 1] tensor."""
        return gl.arange(0, size, layout=gl.SliceLayout(0, gl.SliceLayout(2, layout)))[None, :, None]

    @jit
    def axis2_index(size: tl.constexpr, layout: tl.constexpr) -> tl.tensor:
        """0 .. size-1 as a [1, 1, size] tensor."""
        return gl.arange(0, size, layout=gl.SliceLayout(0, gl.SliceLayout(1, layout)))[None, None, :]

    @constexpr_function
    def _reduction_layout(warps: int, replicated: bool) -> Any:
        if replicated:  # as an [8, 8] accumulator, so that a thread reads two neighbours at once
            return gl.BlockedLayout([warps, 1, 2], [1, 8, 4], [warps, 1, 1], [2, 1, 0])
        # Two rows a thread: with one, `sum_over_warps` takes smaller parts at a time and spills registers at 64 rows.
        return gl.BlockedLayout([warps, 2, 1], [1, 2, 16], [1, warps, 1], [2, 1, 0])

    @constexpr_function
    def _shared_memory_layout(rows: int) -> Any:
        # Rows of fewer than 32 words share a phase; 8 rows of an accumulator then fall into different banks.
        return gl.SwizzledSharedLayout(8, max(1, 32 // rows), rows // 8, [2, 1, 0])

    @constexpr_function
    def matrix_layout(warps: int, replicated: bool) -> Any:
        """The layout of a [rows, rows] tensor: `replicated` in every warp, or distributed over a program's threads."""
        return gl.SliceLayout(0, _reduction_layout(warps, replicated))

    @jit
    def sum_over_warps(parts: tl.tensor, warps: tl.constexpr, replicated: tl.constexpr) -> tl.tensor:
        """The sum of the warps' [warps, rows, rows], in `matrix_layout`."""
        if not replicated:
            # The compiler moves large sums in parts, some before the last products: fewer registers are live.
            return gl.sum(gl.convert_layout(parts, _reduction_layout(warps, replicated)), 0)
        shared = gl.allocate_shared_memory(gl.float32, parts.shape, _shared_memory_layout(parts.shape[2]), parts)
        return gl.sum(shared.load(_reduction_layout(warps, replicated)), 0)

    @jit
    def sum_all_elements(x: tl.tensor, warps: tl.constexpr, replicated: tl.constexpr) -> tl.tensor:
        """The sum of a [rows, rows] tensor in `matrix_layout`, known to every thread."""
        rows = gl.sum(x, 1)
        if not replicated:
            # One pass through shared memory; a sum over warps would take two.
            rows = gl.convert_layout(rows, gl.SliceLayout(1, matrix_layout(warps, True)))
        return gl.sum(rows, 0)

    @jit
    def row_index(size: tl.constexpr, flat: tl.constexpr) -> tl.tensor:
        """0 .. size-1 as a [size, 1] tensor."""
        return gl.arange(0, size, layout=gl.SliceLayout(1, flat))[:, None]

    @jit
    def column_index(size: tl.constexpr, flat: tl.constexpr) -> tl.tensor:
        """0 .. size-1 as a [1, size] tensor."""
        return gl.arange(0, size, layout=gl.SliceLayout(0, flat))[None, :]

    @jit
    def zeros(a: tl.constexpr, b: tl.constexpr, c: tl.constexpr, layout: tl.constexpr) -> tl.tensor:
        """An [a, b, c] float32 tensor of zeros."""
        return gl.full([a, b, c], 0.0, gl.float32, layout)

    @jit
    def multiply_transposed(
        x: tl.tensor, y: tl.tensor, sums: tl.tensor, layout: tl.constexpr, vector: tl.constexpr
    ) -> tl.tensor:
        """Sums + x @ y^T for x and y [warps, rows, k] in the first operand's layout; float32 goes in as tf32.

        Sums of 8 columns take the first 8 of 16 rows of y.
        """
        if sums.shape[2] < y.shape[1]:
            y = first_half_of_rows(y)
        second: tl.constexpr = operand_layout(layout, 1, vector)
        return mma_v2(x, gl.convert_layout(gl.permute(y, (0, 2, 1)), second), sums, input_precision="tf32")

else:
    jit = triton.jit
    reduce_sum = tl.sum
    # The interpreter keeps bfloat16 as its bits, which its matrix product would take for integers.
    WIDEN = tl.constexpr(INTERPRETED)

    @constexpr_function
    def accumulator_layout(warps: int) -> Any:
        """Plain Triton chooses the layout itself."""
        return 0

    @constexpr_function
    def operand_layout(accumulator: Any, index: int, vector: int) -> Any:
        """Plain Triton chooses the layout itself."""
        return 0

    @jit
    def axis0_index(size: tl.constexpr, layout: tl.constexpr) -> tl.tensor:
        """0 .. size-1 as a [size, 1, 1] tensor."""
        return tl.arange(0, size)[:, None, None]

    @jit
    def axis1_index(size: tl.constexpr, layout: tl.constexpr) -> tl.tensor:
        """0 .. size-1 as a [1, size, 1] tensor."""
        return tl.arange(0, size)[None, :, None]

    @jit
    def axis2_index(size: tl.constexpr, layout: tl.constexpr) -> tl.tensor:
        """0 .. size-1 as a [1, 1, size] tensor."""
        return tl.arange(0, size)[None, None, :]

    @constexpr_function
    def matrix_layout(warps: int, replicated: bool) -> Any:
        """Plain Triton chooses the layout itself."""
        return 0

    @jit
    def sum_over_warps(parts: tl.tensor, warps: tl.constexpr, replicated: tl.constexpr) -> tl.tensor:
        """The sum of [warps, rows, rows] over the warps."""
        return tl.sum(parts, 0)

    @jit
    def sum_all_elements(x: tl.tensor, warps: tl.constexpr, replicated: tl.constexpr) -> tl.tensor:
        """The sum of a [rows, rows] tensor."""
        return tl.sum(tl.sum(x, 1), 0)

    @jit
    def row_index(size: tl.constexpr, flat: tl.constexpr) -> tl.tensor:
        """0 .. size-1 as a [size, 1] tensor."""
        return tl.arange(0, size)[:, None]

    @jit
    def column_index(size: tl.constexpr, flat: tl.constexpr) -> tl.tensor:
        """0 .. size-1 as a [1, size] tensor."""
        return tl.arange(0, size)[None, :]

    @jit
    def zeros(a: tl.constexpr, b: tl.constexpr, c: tl.constexpr, layout: tl.constexpr) -> tl.tensor:
        """An [a, b, c] float32 tensor of zeros."""
        return tl.full([a, b, c], 0.0, tl.float32)

    @jit
    def multiply_transposed(
        x: tl.tensor, y: tl.tensor, sums: tl.tensor, layout: tl.constexpr, vector: tl.constexpr
    ) -> tl.tensor:
        """Sums + x @ y^T for x and y [warps, rows, k]; float32 goes in as tf32.

        Sums of 8 columns take the first 8 of 16 rows of y.
        """
        if sums.shape[2] < y.shape[1]:
            y = first_half_of_rows(y)
        if WIDEN:
            x = x.to(tl.float32)
            y = y.to(tl.float32)
        return tl.dot(x, tl.permute(y, (0, 2, 1)), sums, input_precision="tf32")


@jit
def first_half_of_rows(x: tl.tensor) -> tl.tensor:
    """The first half of the rows of [parts, rows, columns]; of 16 rows, each half is in registers of its own."""
    halves = tl.reshape(x, (x.shape[0], 2, x.shape[1] // 2, x.shape[2]))
    upper, _ = tl.split(tl.permute(halves, (0, 2, 3, 1)))
    return upper
