"""Merges the many small radix cache nodes that segments leave."""

from array import array

from sglang_ext.upstream.cache import RadixCache, TreeNode

MAX_NODE_TOKENS = 2048  # SGLang evicts whole nodes; a larger one would cost too much of a prompt at once


def merge_chain(cache: RadixCache, node: TreeNode) -> None:
    """Merge `node` and those above it into nodes of up to `MAX_NODE_TOKENS` tokens, where nothing branches off.

    Each batch of a segment leaves a node, some 60 for an open prompt of 12,000 tokens. SGLang never merges them,
    and each match and each lock walks all of them, several times a request on both servers.

    The lowest of the merged nodes stays and grows to the front, so locks on it stay valid. A node above with a
    lock of its own has a higher `lock_ref` than the one below, and is not merged.

    Args:
        cache: A cache of tokens, not of bigrams.
        node: One of its nodes.
    """
    while node is not cache.root_node:
        chain, above, tokens = [node], _above(node), len(node.key)
        while (
            above is not cache.root_node and _is_only_child(node, above) and tokens + len(above.key) <= MAX_NODE_TOKENS
        ):
            chain.insert(0, above)
            tokens += len(above.key)
            above = _above(above)
        if len(chain) > 1:
            _merge_into_last(cache, chain)
        node = above


def _above(node: TreeNode) -> TreeNode:
    """Return the parent of a node that is not the root."""
    assert node.parent is not None
    return node.parent


def _is_only_child(node: TreeNode, above: TreeNode) -> bool:
    """Whether `above` has one child and no lock that the lower nodes lack."""
    return len(above.children) == 1 and above.lock_ref == node.lock_ref


def _merge_into_last(cache: RadixCache, chain: list[TreeNode]) -> None:
    """Move the contents of a chain, the highest node first, into its lowest node."""
    import torch
    from sglang.srt.mem_cache.radix_cache import RadixKey

    highest, node = chain[0], chain[-1]
    ids: array[int] = array("q")
    for each in chain:
        ids += each.key.token_ids
    hashes = [each.hash_value for each in chain]
    node.parent = above = _above(highest)
    node.key = RadixKey(ids, node.key.extra_key)
    node.value = torch.cat([each.value for each in chain])
    node.hash_value = None if None in hashes else [page for each in hashes for page in each or ()]
    node.priority = max(each.priority for each in chain)
    node.creation_time = highest.creation_time
    above.children[node.key.child_key(cache.page_size)] = node
