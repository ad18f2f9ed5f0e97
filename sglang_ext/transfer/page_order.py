"""Hands out neighbouring free pages together, so that a request's KV lies in few runs."""

import os
from collections.abc import Callable

import torch

from sglang_ext.process_state import process_state
from sglang_ext.upstream.cache import PagedAllocator, RadixCache
from sglang_ext.upstream.scheduler import Scheduler

ENABLED = os.environ.get("SGLANG_EXT_PAGES_IN_RUNS", "1") != "0"  # 0 hands pages out as SGLang does
MIN_RUN_PAGES = 16  # a shorter run counts as scattered pages
# One page in so many of the pool is kept free in long runs, and as many again scattered at most. When half of the
# former is used up, the radix cache evicts old prompts and the free pages are put in order.
RESERVE_DIVISOR = 16


def order_before_alloc_extend(
    allocator: PagedAllocator,
    prefix_lens: torch.Tensor,
    prefix_lens_cpu: torch.Tensor,
    seq_lens: torch.Tensor,
    seq_lens_cpu: torch.Tensor,
    last_loc: torch.Tensor,
    extend_num_tokens: int,
    num_new_pages: int | None = None,
) -> None:
    """BEFORE `PagedTokenToKVPoolAllocator.alloc_extend`: order the free pages it takes."""
    from sglang.srt.utils import get_num_new_pages

    if order_of(allocator) is None:
        return
    if num_new_pages is None:
        num_new_pages = get_num_new_pages(
            seq_lens=seq_lens_cpu, page_size=allocator.page_size, prefix_lens=prefix_lens_cpu
        )
    order_before_alloc(allocator, num_new_pages)


def order_before_alloc(allocator: PagedAllocator, pages: int) -> None:
    """Put long runs of neighbours at the front of the free pages, before `pages` of them are taken."""
    order = order_of(allocator)
    if order is not None and pages > 0:
        order.prepare(pages)


class FreePageOrder:
    """The order in which an allocator hands out its free pages: the longest runs of neighbours first.

    SGLang hands out freed pages by number once the pages of the start are used up. By then these are the last,
    half-filled pages of hundreds of requests, none beside another.

    Each operation on the GPU delays the request that waits for it; to search the best run for each would take
    0.8 ms. So all free pages are ordered at once, only when the reserve runs low, and many old prompts are
    evicted at once for it. The size of the reserve is known without waiting: pages are taken from the front,
    and the number of pages in runs is copied while the request goes on. All ranks see the same numbers.

    Args:
        allocator: Whose free pages are kept in order.
        cache: What to evict from; None when nothing can be evicted.
    """

    def __init__(self, allocator: PagedAllocator, cache: RadixCache | None) -> None:
        self.allocator = allocator
        self._cache = cache
        self._ordered: torch.Tensor | None = None  # the free pages when they were last put in order
        self._pages_in_runs: Callable[[], int] = lambda: 0  # of `_ordered`

    def prepare(self, pages: int) -> None:
        """Order the free pages if those left in runs are too few for `pages` and half of the reserve."""
        allocator = self.allocator
        reserve = allocator.num_pages // RESERVE_DIVISOR
        left = self._left_in_runs()
        if left is not None and left >= pages + reserve // 2:
            return
        scattered = allocator.available_size() // allocator.page_size - (left or 0)
        self._evict_until_free(pages + reserve + min(scattered, reserve))
        if left is None or len(allocator.release_pages) > 0:
            allocator.merge_and_sort_free()
            allocator.free_pages, in_runs = longest_runs_first(allocator.free_pages)
            self._ordered, self._pages_in_runs = allocator.free_pages, read_later(in_runs)

    def _left_in_runs(self) -> int | None:
        """Count the pages in runs that were not taken since the last ordering; None if SGLang undid the order."""
        free = self.allocator.free_pages
        if self._ordered is None or free.untyped_storage().data_ptr() != self._ordered.untyped_storage().data_ptr():
            return None
        return max(0, self._pages_in_runs() - (len(self._ordered) - len(free)))

    def _evict_until_free(self, pages: int) -> None:
        """Evict old prompts until so many pages are free, or none is left."""
        from sglang.srt.mem_cache.base_prefix_cache import EvictParams

        allocator, cache = self.allocator, self._cache
        missing_tokens = pages * allocator.page_size - allocator.available_size()
        if missing_tokens <= 0 or cache is None:
            return
        opens_group = allocator.is_not_in_free_group
        if opens_group:
            allocator.free_group_begin()
        try:
            cache.evict(EvictParams(num_tokens=missing_tokens))
        finally:
            if opens_group:
                allocator.free_group_end()


def page_order_of(scheduler: Scheduler) -> FreePageOrder | None:
    """Make what keeps a scheduler's free pages in order; None where SGLang's order is left as it is."""
    from sglang.srt.mem_cache.radix_cache import RadixCache

    cache = scheduler.tree_cache
    allocator = cache.token_to_kv_pool_allocator
    if not (ENABLED and allocator.page_size > 1 and allocator.need_sort):
        return None
    evictable = type(cache) is RadixCache and not cache.disable
    return FreePageOrder(allocator, cache if evictable else None)


def order_of(allocator: PagedAllocator) -> FreePageOrder | None:
    """Return what keeps an allocator's free pages in order; None where nothing does."""
    order = process_state.find(FreePageOrder)
    return order if order is not None and order.allocator is allocator else None


def longest_runs_first(free: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sort runs of neighbouring pages by length, the longest first; equal ones keep their order.

    Nothing waits for the GPU: no tensor's size depends on the page numbers.

    Args:
        free: Page numbers, sorted within each run, int64 of shape `[pages]`.

    Returns:
        The same numbers, int64 of shape `[pages]`, and how many of them lie in runs of `MIN_RUN_PAGES` or more,
        int64 of shape `[]`, both on the same device.
    """
    starts_run = torch.ones_like(free)
    starts_run[1:] = free[1:] != free[:-1] + 1
    run = starts_run.cumsum(0) - 1
    lengths = torch.zeros_like(free).scatter_add_(0, run, torch.ones_like(free))[run]
    return free[lengths.sort(descending=True, stable=True).indices], (lengths >= MIN_RUN_PAGES).sum()


def read_later(number: torch.Tensor) -> Callable[[], int]:
    """Start copying an integer of shape `[]` from the GPU; the returned function waits until it has arrived."""
    if number.device.type != "cuda":
        value = int(number)
        return lambda: value
    copy = torch.empty_like(number, device="cpu", pin_memory=True)
    copy.copy_(number, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def read() -> int:
        arrived.synchronize()
        return int(copy)

    return read
