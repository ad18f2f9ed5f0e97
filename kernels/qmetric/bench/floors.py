"""The two floors: an empty launch, and the bytes at the read bandwidth that this card reaches."""

from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from qmetric.bench.timing import Timing, time_in_cuda_graph
from qmetric.triton_kernels.dialect import kernel_entry


@kernel_entry(triton.jit)
def _empty_kernel() -> None:
    pass


@kernel_entry(triton.jit)
def _read_kernel(x_ptr: tl.tensor, out_ptr: tl.tensor, blocks: tl.tensor, BLOCK: tl.constexpr) -> None:  # noqa: N803
    total = tl.zeros([BLOCK], tl.int32)
    for block in range(tl.program_id(0), blocks, tl.num_programs(0)):
        total ^= tl.load(x_ptr + tl.cast(block, tl.int64) * BLOCK + tl.arange(0, BLOCK), eviction_policy="evict_first")
    # One word a program, so that the loads are not dropped.
    tl.store(out_ptr + tl.program_id(0), tl.xor_sum(total, 0))


def empty_launch() -> Timing:
    """An empty kernel in a graph."""
    return time_in_cuda_graph(lambda _: _empty_kernel[(1,)](), 128)


def read_bandwidth(gigabytes: int = 2) -> float:
    """The best read-only bandwidth of several launch shapes, in bytes a second."""
    words = gigabytes << 28
    sets = [torch.randint(0, 1 << 30, (words,), dtype=torch.int32, device="cuda") for _ in range(2)]
    out = torch.empty(1 << 20, dtype=torch.int32, device="cuda")
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    best = float("inf")
    for block, warps, programs in ((4096, 8, 16), (8192, 8, 8), (8192, 8, 1 << 12), (2048, 4, 32), (4096, 4, 1 << 12)):
        count = min(words // block, processors * programs)
        options = {"BLOCK": block, "num_warps": warps}
        read = partial(_read_set, sets, out, count, words // block, options)
        best = min(best, time_in_cuda_graph(read, 2, repeats=10).median)
    return words * 4 / (best * 1e-6)


def _read_set(sets: list[Tensor], out: Tensor, programs: int, blocks: int, options: dict[str, int], i: int) -> None:
    _read_kernel[(programs,)](sets[i], out, blocks, **options)
