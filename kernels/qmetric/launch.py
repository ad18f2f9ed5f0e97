"""Launches the Triton kernels.

Triton's own launcher inspects every argument at every call, which costs more than the kernel runs. Here the first
call of a shape goes through it and leaves a `Plan`; later calls of the same shape hand the plan's compiled kernel
its pointers. Nothing here allocates, synchronises or reads device memory, so all of it can be captured in a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from triton import knobs

from qmetric.config import Config, choose, power_of_two
from qmetric.dialect import INTERPRETED
from qmetric.extend_kernel import extend_kernel
from qmetric.gram import gram_kernel
from qmetric.split_kernel import split_kernel

_PLANS_KEPT = 4096  # shapes; a serving process sees a few, a property test many

Launch = Callable[..., None]
_plans: dict[tuple[object, ...], Launch] = {}


def launch_gram(
    embeddings: Tensor,
    mask: Tensor | None,
    confidences: Tensor | None,
    gamma: float,
    tau: float,
    s: Tensor | None,
    q: Tensor | None = None,
    c: Tensor | None = None,
    p: Tensor | None = None,
    config: Config | None = None,
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
    plan = _plans.get(key)
    if plan is None:
        config = config or choose(batch, answers, chunks * size, 8 * embeddings.element_size())
        kernel, constants = _form(config, chunks * size)
        plan = _keep(key, _plan(kernel, config.programs(batch), constants, config.options()))
    _on_its_device(plan, embeddings, mask, confidences, s, q, c, p, batch, answers, gamma, tau)


def _form(config: Config, dimensions: int) -> tuple[Any, tuple[object, ...]]:
    """The kernel and its compile-time constants."""
    if config.split_k:
        return split_kernel, (dimensions, config.rows, config.block_k, config.vector, config.warps)
    tile = (config.rows, config.width, config.block_k, config.vector, config.warps, config.prefetch)
    return gram_kernel, (dimensions, *tile, config.cache, config.evict)


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
    """Write answer `count` of each cluster, its row and column of `similarity`, and q, c, p; see `incremental.py`."""
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
    plan = _plans.get(key)
    if plan is None:
        rows = max(2, power_of_two(count + 1))
        block_k = min(power_of_two(dimensions), max(64, 8192 // rows))
        plan = _keep(key, _plan(extend_kernel, batch, (dimensions, rows, block_k), {"num_warps": 4}))
    _on_its_device(
        plan,
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


def _plan(kernel: Any, programs: int, constants: tuple[object, ...], options: dict[str, int]) -> Launch:
    """A function that launches `kernel` on its run-time arguments, quickly from the second call on."""
    if INTERPRETED:

        def interpret(*arguments: Any) -> None:
            kernel[(programs,)](*arguments, *constants, **options)

        return interpret

    compiled: Any = None
    hooks = knobs.runtime

    def launch(*arguments: Any) -> None:
        nonlocal compiled
        # A profiler's hooks want the metadata that only Triton's own launcher builds.
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
            # A plain address spares the launcher a driver call for each pointer.
            *[a.data_ptr() if isinstance(a, Tensor) else a for a in arguments],
            *constants,
        )

    return launch


def _on_its_device(plan: Launch, embeddings: Tensor, *others: Any) -> None:
    index = embeddings.device.index
    if index is None or torch._C._cuda_getDevice() == index:
        plan(embeddings, *others)
    else:
        with torch.cuda.device(index):
            plan(embeddings, *others)


def _keep(key: tuple[object, ...], plan: Launch) -> Launch:
    if len(_plans) >= _PLANS_KEPT:
        _plans.clear()
    _plans[key] = plan
    return plan
