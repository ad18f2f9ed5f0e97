"""Pages that are allocated together lie together."""

import os
from collections.abc import Callable
from typing import Any

import torch

# One part in so many of a server's pool lies ready in runs of this many neighbouring pages or more, and as much again
# apart at most. Where half of it is used up, the radix cache lets go of old prompts, and what is free is put in order.
SHARE = 16
RUN = 16
WANTED = os.environ.get("SGLANG_EXT_PAGES_IN_RUNS", "1") != "0"  # 0 hands pages out as SGLang does


def attach(result: None, scheduler: Any, *args: Any, **kwargs: Any) -> None:
    """AFTER `Scheduler.init_disaggregation`: begin to keep the pool's free pages in order."""
    from sglang.srt.mem_cache.radix_cache import RadixCache

    cache = scheduler.tree_cache
    allocator = cache.token_to_kv_pool_allocator
    if WANTED and allocator.page_size > 1 and allocator.need_sort:
        evictable = type(cache) is RadixCache and not cache.disable
        allocator.overlay_order = Order(allocator, cache if evictable else None)


def in_one_run(
    allocator: Any,
    prefix_lens: Any,
    prefix_lens_cpu: Any,
    seq_lens: Any,
    seq_lens_cpu: Any,
    last_loc: Any,
    extend_num_tokens: int,
    num_new_pages: int | None = None,
) -> None:
    """BEFORE `PagedTokenToKVPoolAllocator.alloc_extend`: put its pages beside each other."""
    from sglang.srt.utils import get_num_new_pages

    if not hasattr(allocator, "overlay_order"):
        return
    if num_new_pages is None:
        num_new_pages = get_num_new_pages(
            seq_lens=seq_lens_cpu, page_size=allocator.page_size, prefix_lens=prefix_lens_cpu
        )
    make_run(allocator, num_new_pages)


def make_run(allocator: Any, pages: int) -> None:
    """Have free pages that neighbour each other come first, before so many are taken."""
    order: Order | None = getattr(allocator, "overlay_order", None)
    if order is not None and pages > 0:
        order.prepare(pages)


class Order:
    """The order in which an allocator hands out its free pages: the longest runs of neighbours first.

    Upstream hands out what was freed in the order of its numbers, and only once the pages of the start have run out:
    by then these are the last, half filled pages of hundreds of requests, none beside another.

    Every operation on the GPU, however small, is paid by the request that waits for it: to look for the run that fits
    each one best takes 0.8 ms on either server. So the order is made when what is ready runs low, many old prompts
    leave the cache at once for it, and most requests find it made. How much is ready is known without waiting:
    allocations take from the front, and the number of pages in runs is copied while the request goes on. All ranks of
    a server see the same numbers.
    """

    def __init__(self, allocator: Any, cache: Any) -> None:
        self._allocator = allocator
        self._cache = cache
        self._ordered: torch.Tensor | None = None  # the free pages, when they were last put in order
        self._in_runs: Callable[[], int] = lambda: 0  # of them

    def prepare(self, pages: int) -> None:
        """Put the free pages in order if those in runs are too few for `pages` and what is to lie ready."""
        allocator = self._allocator
        ready = allocator.num_pages // SHARE
        left = self._left()
        if left is not None and left >= pages + ready // 2:
            return
        apart = allocator.available_size() // allocator.page_size - (left or 0)
        self._have_free(pages + ready + min(apart, ready))
        if left is None or len(allocator.release_pages) > 0:
            allocator.merge_and_sort_free()
            allocator.free_pages, in_runs = longest_first(allocator.free_pages)
            self._ordered, self._in_runs = allocator.free_pages, later(in_runs)

    def _left(self) -> int | None:
        """Pages in runs that have not been taken since they were put in order; None if upstream undid the order."""
        free = self._allocator.free_pages
        if self._ordered is None or free.untyped_storage().data_ptr() != self._ordered.untyped_storage().data_ptr():
            return None
        return max(0, self._in_runs() - (len(self._ordered) - len(free)))

    def _have_free(self, pages: int) -> None:
        """Let the cache go of old prompts until so many pages are free, or it has none."""
        from sglang.srt.mem_cache.base_prefix_cache import EvictParams

        allocator = self._allocator
        short = pages * allocator.page_size - allocator.available_size()
        if short <= 0 or self._cache is None:
            return
        alone = allocator.is_not_in_free_group
        if alone:
            allocator.free_group_begin()
        try:
            self._cache.evict(EvictParams(num_tokens=short))
        finally:
            if alone:
                allocator.free_group_end()


def longest_first(free: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Put runs of neighbours in the order of their lengths, the longest first, equal ones as they were.

    Nothing waits for the GPU: no size depends on what is free.

    Args:
        free: Page numbers, each run in rising order, int64 of shape `[pages]`.

    Returns:
        The same numbers, int64 of shape `[pages]`, and how many of them lie in runs of `RUN` pages or more, int64 of
        shape `[]`, both on the same device.
    """
    apart = torch.ones_like(free)
    apart[1:] = free[1:] != free[:-1] + 1
    run = apart.cumsum(0) - 1
    lengths = torch.zeros_like(free).scatter_add_(0, run, torch.ones_like(free))[run]
    return free[lengths.sort(descending=True, stable=True).indices], (lengths >= RUN).sum()


def later(number: torch.Tensor) -> Callable[[], int]:
    """An integer of shape `[]`, on its way from the GPU; who calls for it waits until it is here."""
    if number.device.type != "cuda":
        value = int(number)
        return lambda: value
    here = torch.empty_like(number, device="cpu", pin_memory=True)
    here.copy_(number, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def read() -> int:
        arrived.synchronize()
        return int(here)

    return read
