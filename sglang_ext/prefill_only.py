"""Prefill without a decode partner (SGLang's fake bootstrap host), safe at any length."""

from collections.abc import Callable
from typing import Any


def keep_chunk_progress(original: Callable[..., Any], req: Any, tree_cache: Any, **kwargs: Any) -> None:
    """AROUND `maybe_cache_unfinished_req`, which skips requests that must not fill the radix cache.

    A request that is prefilled in chunks finds its finished chunks only through the cache. Without
    them its first chunk is prefilled again and again, each time into new KV slots, until the pool is
    full and the server dies. The chunks stay behind as ordinary, evictable cache.
    """
    if kwargs.get("chunked") and req.skip_radix_cache_insert:
        tree_cache.cache_unfinished_req(req, **kwargs)
    else:
        original(req, tree_cache, **kwargs)
