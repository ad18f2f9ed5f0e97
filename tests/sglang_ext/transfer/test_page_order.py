"""In how few runs of pages KV is sent: the order of free pages, over SGLang's real allocator and radix cache."""

import random
from array import array
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sglang_ext.process_state import process_state
from sglang_ext.transfer import page_order
from sglang_ext.transfer.page_order import MIN_RUN_PAGES, longest_runs_first
from sglang_ext.transfer.transfer_stats import TransferStats

pytestmark = pytest.mark.servers  # imports much of SGLang

PAGE = 4
POOL = 1200  # pages


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_state, "_parts", {})


def runs(pages: list[int]) -> list[list[int]]:
    found: list[list[int]] = []
    for page in pages:
        if found and page == found[-1][-1] + 1:
            found[-1].append(page)
        else:
            found.append([page])
    return found


@given(free=st.sets(st.integers(1, 120)))
def test_the_longest_run_comes_first(free: set[int]) -> None:
    ordered, in_runs = longest_runs_first(torch.tensor(sorted(free), dtype=torch.int64))
    there = sorted(runs(sorted(free)), key=len, reverse=True)
    assert ordered.tolist() == [page for run in there for page in run]
    assert int(in_runs) == sum(len(run) for run in there if len(run) >= MIN_RUN_PAGES)


def test_runs_are_counted() -> None:
    stats = TransferStats()
    stats.count(np.array([], np.int32), np.array([], np.int32))
    stats.count(np.array([5, 6, 7, 8], np.int32), np.array([1, 2, 3, 4], np.int32))
    stats.count(np.array([5, 6, 8, 9], np.int32), np.array([1, 2, 3, 7], np.int32))
    assert stats.to_json() == {"pages": 8, "runs": 4}


class Server:
    """A server's KV pool and radix cache, without a model."""

    def __init__(self) -> None:
        from sglang.srt.mem_cache.cache_init_params import CacheInitParams
        from sglang.srt.mem_cache.radix_cache import RadixCache

        from sglang_ext.cpu.allocator import TorchPagedAllocator

        self.pool: Any = TorchPagedAllocator(POOL * PAGE, PAGE, torch.float32, "cpu", None, need_sort=True)
        self.tree_cache: Any = RadixCache(CacheInitParams(False, None, self.pool, PAGE))
        scheduler: Any = self
        self.order = page_order.page_order_of(scheduler)
        process_state.keep(self.order)

    def allocate(self, tokens: int) -> Any:
        from sglang.srt.mem_cache.common import evict_from_tree_cache

        evict_from_tree_cache(self.tree_cache, tokens + PAGE)
        before, after = torch.tensor([0]), torch.tensor([tokens])
        process_state.keep(self.order)  # another server may have been asked before
        slots = self.pool.alloc_extend(before, before, after, after, torch.tensor([-1]), tokens)
        assert slots is not None
        return slots

    def finish(self, ids: "array[int]", slots: Any) -> None:
        """Whole pages stay in the cache, the last, half filled one goes back."""
        from sglang.srt.mem_cache.base_prefix_cache import InsertParams
        from sglang.srt.mem_cache.radix_cache import RadixKey

        whole = len(ids) // PAGE * PAGE
        self.tree_cache.insert(InsertParams(key=RadixKey(ids[:whole]), value=slots[:whole].clone()))
        self.pool.free(slots[whole:])


def runs_sent() -> float:
    """Runs of pages a request, once both pools have been filled several times."""
    chance = random.Random(3)
    here, there = Server(), Server()
    under_way: deque[tuple[Any, Any, Any]] = deque()
    stats, requests = TransferStats(), 0
    for number in range(600):
        tokens = PAGE * chance.choice((4, 4, 30, 30, 30, 100)) + chance.randrange(1, PAGE)
        ids = array("q", range(number * 1000, number * 1000 + tokens))
        slots = [server.allocate(tokens) for server in (here, there)]
        if number >= 300:
            stats.count(*(each[::PAGE].numpy() // PAGE for each in slots))
            requests += 1
        under_way.append((ids, *slots))
        if len(under_way) > 4:
            at = chance.randrange(len(under_way))
            ids, *slots = under_way[at]
            del under_way[at]
            for server, each in zip((here, there), slots, strict=True):
                server.finish(ids, each)
    return stats.runs / requests


def test_requests_lie_in_few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = runs_sent()
    monkeypatch.setattr("sglang_ext.cpu.allocator.order_before_alloc", lambda *_: None)
    upstream = runs_sent()
    assert ours < 2.5
    assert upstream > 4 * ours


def test_a_pool_without_neighbours_is_still_given_out() -> None:
    server = Server()
    held = [server.allocate(PAGE) for _ in range(POOL)]
    for each in held[::2]:
        server.pool.free(each)
    slots = server.allocate(10 * PAGE)
    assert len(set(slots.tolist())) == 10 * PAGE
    assert server.pool.available_size() == (POOL // 2 - 10) * PAGE


def test_the_order_is_seldom_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(free: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        made.append(len(free))
        return longest_runs_first(free)

    monkeypatch.setattr(page_order, "longest_runs_first", counted)
    runs_sent()
    assert 0 < len(made) < 0.4 * 2 * 600


def test_an_order_that_upstream_undid_is_made_again() -> None:
    server = Server()
    slots = [server.allocate(each * PAGE) for each in (20, 4, POOL - 64, 40)]
    server.pool.free(slots[3])
    for at in range(0, 20, 2):
        server.pool.free(slots[0][at * PAGE : (at + 1) * PAGE])
    server.pool.merge_and_sort_free()
    pages = server.allocate(30 * PAGE)[::PAGE] // PAGE
    assert len(runs(pages.tolist())) == 1


def test_what_cannot_be_put_in_order_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    held = [server.allocate(PAGE) for _ in range(POOL)]
    for each in held[::2]:
        server.pool.free(each)
    server.allocate(PAGE)
    monkeypatch.setattr(page_order, "longest_runs_first", lambda _: pytest.fail("nothing was freed meanwhile"))
    for _ in range(5):
        server.allocate(PAGE)


def test_a_cleared_pool_is_put_in_order_again() -> None:
    server = Server()
    server.allocate(100 * PAGE)
    server.pool.clear()
    assert server.allocate(PAGE).tolist() == list(range(PAGE, 2 * PAGE))


def test_eviction_is_bounded() -> None:
    server = Server()
    for number in range(80):
        ids = array("q", range(number * 1000, number * 1000 + 30 * PAGE))
        server.finish(ids, server.allocate(len(ids)))
        free = server.pool.available_size() // PAGE
        assert number * 30 < POOL or free <= POOL // 8 + 30


@pytest.mark.parametrize("tokens", [1, 5 * PAGE, 40 * PAGE])
def test_the_hook_counts_new_pages_as_sglang_does(monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    server = Server()
    wanted: list[int] = []
    monkeypatch.setattr(server.order, "prepare", wanted.append)
    before, after = torch.tensor([PAGE]), torch.tensor([PAGE + tokens])
    page_order.order_before_alloc_extend(server.pool, before, before, after, after, None, tokens)
    page_order.order_before_alloc_extend(server.pool, before, before, after, after, None, tokens, num_new_pages=3)
    assert wanted == [-(-tokens // PAGE), 3]


def test_where_no_order_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_order, "ENABLED", False)
    server = Server()
    assert server.order is None
    after = torch.tensor([PAGE])
    page_order.order_before_alloc_extend(server.pool, after * 0, after * 0, after, after, None, PAGE)
    assert len(server.allocate(PAGE)) == PAGE
