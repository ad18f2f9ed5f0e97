"""Requests that count as several: trees, and requests that give their place up for a while."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from router.errors import Overloaded, TimedOutInQueue, TooManyRequests
from router.moa.tree_files import load_trees
from router.moa.tree_request import read_tree_request
from router.server.admission import AdmissionSettings, ConcurrencyGate, TokenBucket
from router.server.admission.ticket import AdmissionTicket
from tests.router.moa.test_tree_runs import CHAT, Agents, hangs, small_tree
from tests.router.support.aio import aio, until, within
from tests.router.support.serving import serving


@aio
async def test_the_head_of_the_queue_waits_for_room_for_all_of_it() -> None:
    gate = ConcurrencyGate(4, 10, 5.0)
    for _ in range(3):
        assert gate.enter() is None
    heavy = gate.reenter(3)
    light = gate.enter()
    assert heavy is not None
    assert light is not None, "who comes later does not overtake"
    gate.leave()
    assert not heavy.done()
    gate.leave()
    assert heavy.done()
    assert not light.done()
    gate.leave()
    assert light.done()
    gate.leave(3)
    gate.leave()
    assert (gate.running, gate.waiting) == (0, 0)


@aio
async def test_a_request_heavier_than_the_limit_runs_alone() -> None:
    gate = ConcurrencyGate(4, 10, 5.0)
    assert gate.enter() is None
    heavy = gate.reenter(13)
    assert heavy is not None
    gate.leave()
    assert heavy.done()
    assert gate.running == 13
    light = gate.enter()
    assert light is not None
    gate.leave(13)
    assert light.done()


@aio
async def test_a_heavy_request_that_gives_up_lets_others_in() -> None:
    gate = ConcurrencyGate(2, 10, 0.01)
    assert gate.enter() is None
    heavy = gate.reenter(2)
    light = gate.enter()
    assert heavy is not None
    assert light is not None
    with pytest.raises(TimedOutInQueue):
        await gate.wait(heavy)
    gate.cancel(heavy)
    assert light.done()
    gate.leave()
    gate.leave()
    assert (gate.running, gate.waiting) == (0, 0)


@aio
async def test_the_queue_is_bounded_in_bytes() -> None:
    gate = ConcurrencyGate(1, 10, 5.0, max_queued_bytes=100)
    assert gate.enter(5000) is None, "a body that does not wait is not the queue's"
    first = gate.enter(80)
    assert first is not None
    with pytest.raises(Overloaded, match="the requests that wait have 80 bytes, so 30 more cannot wait"):
        gate.check(30)
    second = gate.enter(20)
    assert second is not None
    gate.cancel(second)
    gate.leave()
    assert first.done()
    assert gate.queued_bytes == 0


@aio
async def test_a_ticket_holds_nothing_while_it_waits() -> None:
    now = 0.0
    gate, bucket = ConcurrencyGate(4, 0, 5.0), TokenBucket(1.0, 4, clock=lambda: now)
    assert gate.enter() is None
    assert bucket.take() == 0
    ticket = AdmissionTicket(gate, bucket)
    ticket.pause()
    ticket.pause()
    assert gate.running == 0
    assert [bucket.take() for _ in range(4)] == [0] * 4, "its token is back"
    for _ in range(4):
        assert gate.enter() is None
    with pytest.raises(TooManyRequests):
        gate.enter()
    resuming = asyncio.create_task(ticket.resume())
    await asyncio.sleep(0)
    assert not resuming.done(), "it waits although there is no queue"
    gate.leave()
    await resuming
    assert bucket.wait() == pytest.approx(2.0), "what it owes is waited for by others"
    await ticket.reweigh(1)
    ticket.close()
    ticket.close()
    assert gate.running == 3


@aio
async def test_a_tree_counts_as_its_calls(tmp_path: Path) -> None:
    path = tmp_path / "trees.json"
    path.write_text(json.dumps(small_tree()))
    agents = Agents()
    agents.answer["p1"] = hangs
    async with serving(agents.pair, trees=path, limits=AdmissionSettings(max_concurrent=7, queue_size=2)) as router:
        gate = router.limits.gate
        assert gate is not None
        tree = asyncio.create_task(router.post("/v1/chat/completions", CHAT))
        await until(lambda: gate.running == 6, "its six calls are counted")
        assert (await router.post("/generate", {"input_ids": [1]})).status_code == 200, "the seventh place is free"
        second = asyncio.create_task(router.post("/v1/chat/completions", CHAT))
        await until(lambda: (gate.running, gate.waiting) == (6, 1), "another tree does not fit")
        for task in (tree, second):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await until(lambda: (gate.running, gate.waiting) == (0, 0), "all have left")


@aio
async def test_trees_that_ask_for_all_places_at_once_do_not_block_each_other(tmp_path: Path) -> None:
    path = tmp_path / "trees.json"
    path.write_text(json.dumps(small_tree()))
    limits = AdmissionSettings(max_concurrent=6, queue_size=20)
    async with serving(Agents().pair, trees=path, limits=limits) as router:
        asked = [asyncio.create_task(router.post("/v1/chat/completions", CHAT)) for _ in range(8)]
        answers = await within(10.0, asyncio.gather(*asked))
        assert [each.status_code for each in answers] == [200] * 8


@pytest.mark.parametrize(
    ("body", "calls"),
    [
        ({"messages": CHAT["messages"]}, 6),
        ({"messages": CHAT["messages"], "n": 3}, 8),
        ({"prompt": ["a", "b"], "n": 2}, 14),
    ],
)
def test_how_many_calls_a_request_takes(body: dict[str, Any], calls: int, tmp_path: Path) -> None:
    path = tmp_path / "trees.json"
    path.write_text(json.dumps(small_tree()))
    (tree,) = load_trees(path).trees
    assert read_tree_request(body, "chat" if "messages" in body else "completion", tree).calls == calls
