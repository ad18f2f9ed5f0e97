"""Pages that are allocated together lie together."""

import os
from typing import Any

import torch

# So many times what it is about to allocate a server has free, but no more than one part in `SHARE` of its pool beyond
# it. With nothing to choose from, requests lie in more than twice as many runs.
CHOICE = 4
SHARE = 16
WANTED = os.environ.get("SGLANG_EXT_PAGES_IN_RUNS", "1") != "0"  # 0 hands pages out as SGLang does


def attach(result: None, scheduler: Any, *args: Any, **kwargs: Any) -> None:
    """AFTER `Scheduler.init_disaggregation`: where room can be made."""
    from sglang.srt.mem_cache.radix_cache import RadixCache

    cache = scheduler.tree_cache
    if type(cache) is RadixCache and not cache.disable:
        cache.token_to_kv_pool_allocator.overlay_cache = cache


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

    if not _wanted(allocator):
        return
    if num_new_pages is None:
        num_new_pages = get_num_new_pages(
            seq_lens=seq_lens_cpu, page_size=allocator.page_size, prefix_lens=prefix_lens_cpu
        )
    make_run(allocator, num_new_pages)


def make_run(allocator: Any, pages: int) -> None:
    """Put the run of free pages first that fits best.

    Upstream hands out what was freed in the order of its numbers, and only once the pages of the start have run out:
    by then these are the last, half filled pages of hundreds of requests, none beside another. Older prompts leave
    the radix cache a little sooner here, so that there are whole ones' pages to choose from.
    """
    if _wanted(allocator) and pages > 0:
        _evict(allocator, pages)
        allocator.merge_and_sort_free()
        allocator.free_pages = best_fit_first(allocator.free_pages, pages)


def _wanted(allocator: Any) -> bool:
    return WANTED and bool(allocator.need_sort)


def _evict(allocator: Any, pages: int) -> None:
    from sglang.srt.mem_cache.base_prefix_cache import EvictParams

    cache = getattr(allocator, "overlay_cache", None)
    wanted = min(CHOICE * pages, pages + allocator.num_pages // SHARE) * allocator.page_size
    short = wanted - allocator.available_size()
    if short > 0 and cache is not None:
        cache.evict(EvictParams(num_tokens=short))


def best_fit_first(free: torch.Tensor, wanted: int) -> torch.Tensor:
    """Reorder free pages so that the first `wanted` ones are neighbours, if as many neighbours are free.

    First come `wanted` pages of the shortest run of neighbours that has as many, the first such run among equals; then
    what is left of it and the other runs, from the shortest on, so that requests that grow page by page use up what is
    of no other use. Where no run has as many, the longest come first. Nothing waits for the GPU: no size depends on
    what is free.

    Args:
        free: Page numbers, each run in rising order, int64 of shape `[pages]`.
        wanted: Pages that are about to be taken.

    Returns:
        The same numbers, int64 of shape `[pages]` on the same device.
    """
    count = len(free)
    if count < 2:
        return free
    number = torch.arange(count, device=free.device)
    apart = free[1:] != free[:-1] + 1
    edge = torch.ones_like(apart[:1])
    begin = torch.where(torch.cat((edge, apart)), number, 0).cummax(0).values
    end = torch.where(torch.cat((apart, edge)), number, count).flip(0).cummin(0).values.flip(0)
    length = end - begin + 1
    shortest, at = torch.where(length >= wanted, length, count + 1).min(0)
    best = torch.where(number - begin < wanted, 0, length - wanted)
    rank = torch.where(begin == begin.gather(0, at[None]), best, length)
    rank = torch.where(shortest > count, -length, rank)
    return free[torch.sort(rank, stable=True).indices]
