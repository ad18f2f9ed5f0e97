"""Pages that are allocated together lie together."""

import os
from typing import Any

import torch

from sglang_ext.open_prompt import state

# So many times what it is about to allocate a server has free, but no more than one part in `SHARE` of its pool beyond
# it. With nothing to choose from, requests lie in more than twice as many runs.
CHOICE = 4
SHARE = 16
WANTED = os.environ.get("SGLANG_EXT_PAGES_IN_RUNS", "1") != "0"  # 0 hands pages out as SGLang does


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
    """BEFORE `PagedTokenToKVPoolAllocator.alloc_extend`: put the run of free pages first that fits best.

    Upstream hands out what was freed in the order of its numbers, and only once the pages of the start have run out:
    by then these are the last, half filled pages of hundreds of requests, none beside another. Older prompts leave
    the radix cache a little sooner here, so that there are whole ones' pages to choose from.
    """
    if not WANTED or not allocator.need_sort:
        return
    page = allocator.page_size
    if num_new_pages is None:
        num_new_pages = int(((seq_lens_cpu + page - 1) // page - (prefix_lens_cpu + page - 1) // page).sum())
    if num_new_pages > 0:
        _evict(allocator, num_new_pages)
        allocator.merge_and_sort_free()
        allocator.free_pages = best_fit_first(allocator.free_pages, num_new_pages)


def _evict(allocator: Any, pages: int) -> None:
    from sglang.srt.mem_cache.base_prefix_cache import EvictParams

    scheduler = state.scheduler()
    if scheduler is None:
        return
    wanted = min(CHOICE * pages, pages + allocator.num_pages // SHARE) * allocator.page_size
    short = wanted - allocator.available_size()
    if short > 0:
        scheduler.tree_cache.evict(EvictParams(num_tokens=short))


def best_fit_first(free: torch.Tensor, wanted: int) -> torch.Tensor:
    """Reorder free pages so that the first `wanted` ones are neighbours, if as many neighbours are free.

    First comes the shortest run of neighbours that has `wanted` pages, the one of the lowest numbers among equals;
    then the others from the shortest on, so that requests that grow page by page use up what is of no other use.
    Where no run has as many, the longest come first. Nothing waits for the GPU: no size depends on what is free.

    Args:
        free: Page numbers in rising order, int64 of shape `[pages]`.
        wanted: Pages that are about to be taken.

    Returns:
        The same numbers, int64 of shape `[pages]` on the same device.
    """
    if len(free) < 2:
        return free
    begins = torch.ones_like(free)
    begins[1:] = (free[1:] != free[:-1] + 1).to(free.dtype)
    run = begins.cumsum(0) - 1
    length = torch.zeros_like(free).scatter_add_(0, run, torch.ones_like(free))[run]
    none = len(free) + 1
    shortest, at = torch.where(length >= wanted, length, none).min(0)
    rank = torch.where(run == run.gather(0, at[None]), 0, length)
    rank = torch.where(shortest == none, -length, rank)
    return free[torch.sort(rank, stable=True).indices]
