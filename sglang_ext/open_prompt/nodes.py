"""Fewer nodes in the radix cache for what segments leave there."""

from array import array
from typing import Any

MOST = 2048  # tokens of a joined node: SGLang evicts whole nodes, and a prompt shall not go as a whole for one page


def join(cache: Any, node: Any) -> None:
    """Make few nodes, of up to `MOST` tokens, of those from `node` up that lead to it alone.

    Every batch of a segment leaves a node, an open prompt of 12,000 tokens some 60. SGLang never joins them, and each
    match and each lock walks all, several times a request on both servers.

    The lowest of those joined stays and grows to the front, so whoever holds it goes on holding it. One above that
    anybody holds for itself has more locks than the one below, and stays too.

    Args:
        cache: SGLang's `RadixCache`, of tokens and not of bigrams.
        node: One of its nodes.
    """
    while node is not cache.root_node:
        chain, above, tokens = [node], node.parent, len(node.key)
        while above is not cache.root_node and _leads_only_to(node, above) and tokens + len(above.key) <= MOST:
            chain.insert(0, above)
            tokens += len(above.key)
            above = above.parent
        if len(chain) > 1:
            _make_one(cache, chain)
        node = above


def _leads_only_to(node: Any, above: Any) -> bool:
    return len(above.children) == 1 and above.lock_ref == node.lock_ref


def _make_one(cache: Any, chain: list[Any]) -> None:
    """Put what the others of a chain, the highest first, hold into its lowest node."""
    import torch
    from sglang.srt.mem_cache.radix_cache import RadixKey

    highest, node = chain[0], chain[-1]
    ids: array[int] = array("q")
    for each in chain:
        ids += each.key.token_ids
    hashes = [each.hash_value for each in chain]
    node.parent = highest.parent
    node.key = RadixKey(ids, node.key.extra_key)
    node.value = torch.cat([each.value for each in chain])
    node.hash_value = None if None in hashes else [page for each in hashes for page in each]
    node.priority = max(each.priority for each in chain)
    node.creation_time = highest.creation_time
    node.parent.children[node.key.child_key(cache.page_size)] = node
