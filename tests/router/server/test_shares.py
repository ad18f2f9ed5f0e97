"""Several clients before one gate: none takes all places, and one that is alone may."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.server.admission import AdmissionSettings, ConcurrencyGate
from router.server.admission.shares import RECENT_SECONDS, ClientShares
from tests.router.server.test_admission import Slow
from tests.router.support.aio import aio, until, within
from tests.router.support.serving import serving


def test_who_is_alone_may_hold_all() -> None:
    now = 0.0
    shares = ClientShares(16, clock=lambda: now)
    shares.record_request("a")
    shares.hold("a", 15)
    assert shares.allows("a", 1)
    shares.record_request("b")
    assert not shares.allows("a", 1)
    assert shares.allows("b", 1)
    now = RECENT_SECONDS + 1
    shares.record_request("a")
    assert shares.allows("a", 1), "the other one has not come for a while"


@pytest.mark.claim("shares-are-kept")
@given(limit=st.integers(2, 64), others=st.integers(1, 64))
def test_who_holds_much_leaves_room_as_others_come(limit: int, others: int) -> None:
    shares = ClientShares(limit, clock=lambda: 0.0)
    for client in ("greedy", "other"):
        shares.record_request(client)
    shares.hold("other", min(others, limit // 2))
    held = 0
    while shares.allows("greedy", 1):
        shares.hold("greedy", 1)
        held += 1
    assert max(1, limit // 2) <= held <= max(1, limit - max(limit // 8, 1) - min(others, limit // 2), limit // 2 + 1)


@aio
async def test_a_full_queue_of_one_client_does_not_hold_up_another() -> None:
    gate = ConcurrencyGate(8, 20, 5.0)
    for _ in range(8):
        assert gate.enter(0, "greedy") is None
    waiting = [gate.enter(0, "greedy") for _ in range(5)]
    first = gate.enter(0, "quiet")
    assert first is not None, "all places are taken"
    gate.leave(1, "greedy")
    assert first.done(), "the next place is not the greedy client's, which has more than its share"
    assert not any(each is not None and each.done() for each in waiting)
    for _ in range(3):
        gate.leave(1, "greedy")
    assert gate.enter(0, "quiet") is None, "and there is room left"
    for _ in range(2):
        gate.leave(1, "quiet")
    for _ in range(8 - 4 + 5):
        gate.leave(1, "greedy")
    assert (gate.running, gate.waiting) == (0, 0)


@aio
async def test_in_a_router() -> None:
    pair = Slow()
    limits = AdmissionSettings(max_concurrent=4, queue_size=8)
    async with serving(pair, limits=limits) as client, client.http_from("127.0.0.2") as other:
        clients = {"greedy": client.http, "quiet": other}

        async def ask(who: str) -> int:
            return (await clients[who].post("/generate", json={"text": "x"})).status_code

        gate = client.limits.gate
        assert gate is not None
        quiet = [asyncio.create_task(ask("quiet"))]
        await until(lambda: gate.running == 1, "it runs")
        greedy = [asyncio.create_task(ask("greedy")) for _ in range(12)]
        await until(lambda: any(task.done() for task in greedy), "some are refused")
        quiet += [asyncio.create_task(ask("quiet"))]
        await until(lambda: len(pair.decode.requests) == 4, "the fourth place is the quiet client's")
        assert gate.running == 4
        pair.release.set()
        assert await within(5.0, asyncio.gather(*quiet)) == [200, 200]
        statuses = await within(5.0, asyncio.gather(*greedy))
        assert set(statuses) == {200, 429}
