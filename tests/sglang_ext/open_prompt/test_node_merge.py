"""Nodes of SGLang's real radix cache are merged (without a model)."""

from array import array
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sglang_ext.open_prompt.node_merge import MAX_NODE_TOKENS, merge_chain

pytestmark = pytest.mark.servers  # imports SGLang, for seconds


class Freed:
    """What the cache gives back, in place of a pool's allocator."""

    device = "cpu"

    def __init__(self) -> None:
        self.slots: list[int] = []

    def free_segment(self, slots: Any, start_pos: int) -> None:
        self.slots += slots.tolist()


def cache_of(page_size: int) -> tuple[Any, Freed]:
    from sglang.srt.mem_cache.radix_cache import RadixCache

    freed = Freed()
    cache = RadixCache.create_simulated(mock_allocator=freed, page_size=page_size, enable_kv_cache_events=True)
    return cache, freed


def insert(cache: Any, ids: list[int], first: int) -> None:
    """With slots from `first` on."""
    import torch
    from sglang.srt.mem_cache.base_prefix_cache import InsertParams
    from sglang.srt.mem_cache.radix_cache import RadixKey

    slots = torch.arange(first, first + len(ids))
    cache.insert(InsertParams(key=RadixKey(array("q", ids)), value=slots))


def found(cache: Any, ids: list[int]) -> Any:
    from sglang.srt.mem_cache.base_prefix_cache import MatchPrefixParams
    from sglang.srt.mem_cache.radix_cache import RadixKey

    return cache.match_prefix(MatchPrefixParams(key=RadixKey(array("q", ids))))


def nodes(cache: Any) -> list[Any]:
    every, left = [], list(cache.root_node.children.values())
    while left:
        every.append(left.pop())
        left += every[-1].children.values()
    return every


PROMPTS = st.lists(st.integers(0, 1), min_size=1, max_size=24)
STEPS = st.lists(st.tuples(st.sampled_from(["insert", "insert", "lock", "unlock", "merge"]), PROMPTS), max_size=30)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.sampled_from([1, 4]), st.sampled_from([8, MAX_NODE_TOKENS]))
def test_merging_changes_nothing_that_the_cache_holds(
    steps: list[tuple[str, list[int]]], page_size: int, most: int
) -> None:
    with patch("sglang_ext.open_prompt.node_merge.MAX_NODE_TOKENS", most):
        check(steps, page_size)


def check(steps: list[tuple[str, list[int]]], page_size: int) -> None:
    from sglang.srt.mem_cache.base_prefix_cache import EvictParams
    from sglang.srt.mem_cache.utils import compute_node_hash_values

    cache, freed = cache_of(page_size)
    seen: list[list[int]] = []
    locked: list[Any] = []
    for number, (what, ids) in enumerate(steps):
        if what == "insert":
            insert(cache, ids, 100 * number)
            seen.append(ids)
        elif what == "lock":
            locked.append(found(cache, ids).last_device_node)
            cache.inc_lock_ref(locked[-1])
        elif what == "unlock" and locked:
            cache.dec_lock_ref(locked.pop())
        elif what == "merge":
            node = found(cache, ids).last_device_node
            before = [found(cache, each).device_indices.tolist() for each in seen]
            sizes, count = (cache.evictable_size(), cache.protected_size()), len(nodes(cache))
            merge_chain(cache, node)
            merged = len(nodes(cache))
            assert merged <= count
            merge_chain(cache, node)
            assert len(nodes(cache)) == merged
            assert [found(cache, each).device_indices.tolist() for each in seen] == before
            assert (cache.evictable_size(), cache.protected_size()) == sizes
        assert cache.evictable_leaves == {each for each in nodes(cache) if not (each.lock_ref or each.children)}
        assert all(each.hash_value == compute_node_hash_values(each, page_size) for each in nodes(cache))
    for node in locked:
        cache.dec_lock_ref(node)
    kept = sum(len(each.value) for each in nodes(cache))
    assert (cache.evictable_size(), cache.protected_size()) == (kept, 0)
    cache.evict(EvictParams(num_tokens=kept))
    assert len(freed.slots) == len(set(freed.slots)) == kept
    assert nodes(cache) == []


def test_one_node_for_a_prompt_that_came_in_pieces() -> None:
    cache, _ = cache_of(page_size=4)
    ids = list(range(40))
    for end in range(4, 44, 4):
        insert(cache, ids[:end], 0)
    shared = found(cache, ids[:8]).last_device_node
    cache.inc_lock_ref(shared)
    merge_chain(cache, found(cache, ids).last_device_node)
    assert sorted(len(each.key) for each in nodes(cache)) == [8, 32]  # what is held apart stays apart
    cache.dec_lock_ref(shared)
    merge_chain(cache, found(cache, ids).last_device_node)
    assert [each.key.token_ids.tolist() for each in nodes(cache)] == [ids]


def test_where_prompts_part_there_is_a_node() -> None:
    cache, _ = cache_of(page_size=1)
    for tail in ([7, 8], [9]):
        insert(cache, [1, 2, 3, *tail], 0)
    for tail in ([7, 8], [9]):
        merge_chain(cache, found(cache, [1, 2, 3, *tail]).last_device_node)
    assert sorted(len(each.key) for each in nodes(cache)) == [1, 2, 3]


def test_a_prompt_that_is_evicted_goes_piece_by_piece() -> None:
    from sglang.srt.mem_cache.base_prefix_cache import EvictParams

    cache, freed = cache_of(page_size=16)
    ids = list(range(5 * MAX_NODE_TOKENS))
    for end in range(256, len(ids) + 1, 256):
        insert(cache, ids[:end], 0)
        merge_chain(cache, found(cache, ids[:end]).last_device_node)
    assert sorted(len(each.key) for each in nodes(cache)) == [MAX_NODE_TOKENS] * 5
    cache.evict(EvictParams(num_tokens=1))
    assert sorted(freed.slots) == ids[4 * MAX_NODE_TOKENS :]
    assert found(cache, ids).device_indices.tolist() == ids[: 4 * MAX_NODE_TOKENS]
