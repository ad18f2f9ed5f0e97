"""Prefill without a decode partner (SGLang's fake bootstrap host), safe at any length."""

from collections.abc import Callable
from typing import Any

from sglang_ext.upstream.cache import RadixCache
from sglang_ext.upstream.request import Request


def cache_finished_chunks(original: Callable[..., Any], req: Request, tree_cache: RadixCache, **kwargs: Any) -> None:
    """AROUND `maybe_cache_unfinished_req`, which skips requests that must not fill the radix cache.

    A request that is prefilled in chunks finds its finished chunks only in the cache. Without them its
    first chunk is prefilled again and again, each time into new KV slots, until the pool is full and
    the server dies. The chunks stay in the cache and can be evicted.
    """
    if kwargs.get("chunked") and req.skip_radix_cache_insert:
        tree_cache.cache_unfinished_req(req, **kwargs)
    else:
        original(req, tree_cache, **kwargs)
