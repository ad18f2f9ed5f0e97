"""Launches the Triton kernels.

Triton's own launcher inspects every argument at every call, which takes longer than the kernel. Here the first call of
a shape goes through it, and later calls of that shape hand the compiled kernel its pointers directly. Nothing here
allocates, synchronises or reads device memory, so all of it can be captured in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from triton import knobs

from qmetric.triton_kernels.config import KernelConfig, choose_config, power_of_two
from qmetric.triton_kernels.dialect import INTERPRETED
from qmetric.triton_kernels.extend import extend_kernel
from qmetric.triton_kernels.split import split_kernel
from qmetric.triton_kernels.streaming import streaming_kernel

_MAX_CACHED_LAUNCHES = 4096  # shapes; a serving process sees a few, a property test many

CachedLaunch = Callable[..., None]
_cached_launches: dict[tuple[object, ...], CachedLaunch] = {}


def launch_metric(
    embeddings: Tensor,
    mask: Tensor | None,
    confidences: Tensor | None,
    gamma: float,
    tau: float,
    s: Tensor | None,
    q: Tensor | None = None,
    c: Tensor | None = None,
    p: Tensor | None = None,
    config: KernelConfig | None = None,
) -> None:
    """Fill s[B, N, N] and, where confidences are given, q, c, p[B]; the arguments are valid and contiguous.

    `config` overrides the automatic choice (benchmarks).
    """
    batch, answers, chunks, size = embeddings.shape
    key = (
        batch,
        answers,
        chunks * size,
        embeddings.dtype,
        embeddings.data_ptr() & 15,
        embeddings.device.index,
        mask is None,
        s is None,
        None if confidences is None else confidences.dtype,
        config,
    )
    launch = _cached_launches.get(key)
    if launch is None:
        config = config or choose_config(batch, answers, chunks * size, 8 * embeddings.element_size())
        kernel, constants = _kernel_and_constants(config, chunks * size)
        launch = _remember(key, make_launch(kernel, config.programs(batch), constants, config.options()))
    call_on_device(launch, embeddings, mask, confidences, s, q, c, p, batch, answers, gamma, tau)


def _kernel_and_constants(config: KernelConfig, dimensions: int) -> tuple[Any, tuple[object, ...]]:
    """The kernel and its compile-time constants."""
    if config.split_k:
        return split_kernel, (dimensions, config.rows, config.block_k, config.vector, config.warps)
    tile = (config.rows, config.width, config.block_k, config.vector, config.warps, config.prefetch)
    return streaming_kernel, (dimensions, *tile, config.cache, config.evict)


def launch_extend(
    embeddings: Tensor,
    confidences: Tensor,
    mask: Tensor,
    similarity: Tensor,
    embedding: Tensor,
    confidence: Tensor,
    valid: Tensor | None,
    count: int,
    gamma: float,
    tau: float,
    q: Tensor,
    c: Tensor,
    p: Tensor,
) -> None:
    """Write answer `count` of each cluster, its row and column of `similarity`, and q, c, p (`incremental.py`)."""
    batch, capacity, chunks, size = embeddings.shape
    dimensions = chunks * size
    key = (
        "extend",
        batch,
        capacity,
        count,
        dimensions,
        embeddings.dtype,
        embedding.dtype,
        (embeddings.data_ptr() | embedding.data_ptr()) & 15,
        embeddings.device.index,
        valid is None,
        confidence.dtype,
    )
    launch = _cached_launches.get(key)
    if launch is None:
        rows = max(2, power_of_two(count + 1))
        block_k = min(power_of_two(dimensions), max(64, 8192 // rows))
        launch = _remember(key, make_launch(extend_kernel, batch, (dimensions, rows, block_k), {"num_warps": 4}))
    call_on_device(
        launch,
        embeddings,
        confidences,
        mask,
        similarity,
        embedding,
        confidence,
        valid,
        q,
        c,
        p,
        capacity,
        count,
        gamma,
        tau,
    )


def make_launch(kernel: Any, programs: int, constants: tuple[object, ...], options: dict[str, int]) -> CachedLaunch:
    """A function that launches `kernel` on its run-time arguments, quickly from the second call on."""
    if INTERPRETED:

        def interpret(*arguments: Any) -> None:
            kernel[(programs,)](*arguments, *constants, **options)

        return interpret

    compiled: Any = None
    hooks = knobs.runtime

    def launch(*arguments: Any) -> None:
        nonlocal compiled
        # A profiler's hooks need the metadata that only Triton's own launcher builds.
        if compiled is None or getattr(hooks.launch_enter_hook, "calls", hooks.launch_enter_hook):
            compiled = kernel[(programs,)](*arguments, *constants, **options)
            return
        compiled.run(
            programs,
            1,
            1,
            torch._C._cuda_getCurrentRawStream(arguments[0].device.index),
            compiled.function,
            compiled.packed_metadata,
            None,
            None,
            None,
            # With a plain address the launcher makes no driver call for the pointer.
            *[_address(a) for a in arguments],
            *constants,
        )

    return launch


def _address(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return argument.data_ptr()
    return tuple(map(_address, argument)) if isinstance(argument, tuple) else argument


def call_on_device(launch: CachedLaunch, first: Tensor, *others: Any) -> None:
    """Launch on the device of the first argument."""
    index = first.device.index
    if index is None or torch._C._cuda_getDevice() == index:
        launch(first, *others)
    else:
        with torch.cuda.device(index):
            launch(first, *others)


def _remember(key: tuple[object, ...], launch: CachedLaunch) -> CachedLaunch:
    if len(_cached_launches) >= _MAX_CACHED_LAUNCHES:
        _cached_launches.clear()
    _cached_launches[key] = launch
    return launch
