"""Bytes of bodies in memory: by themselves, and in a router whose clients send too many."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import Overloaded, TooLarge
from router.http.body_budget import LONG_BODY_BYTES, BodyBudget
from router.server.admission import AdmissionSettings
from tests.router.support.aio import aio, until, within
from tests.router.support.fakes import Call, FakePair
from tests.router.support.raw import RawClient, connected
from tests.router.support.serving import Serving, serving

MIB = 1 << 20


@pytest.mark.claim("bytes-are-bounded")
@given(
    total=st.integers(1, 20 * MIB),
    bodies=st.lists(st.tuples(st.integers(0, 8 * MIB), st.sampled_from("abc")), max_size=30),
    piece=st.integers(1000, 3 * MIB),
)
def test_the_budget_is_kept_and_comes_back(total: int, bodies: list[tuple[int, str]], piece: int) -> None:
    budget = BodyBudget(total)
    taken = []
    for size, client in bodies:
        counted = 0
        try:
            budget.check(size, client)
            while counted < size:
                more = min(piece, size - counted)
                budget.take(counted, more, client)
                counted += more
        except (Overloaded, TooLarge):
            pass
        taken.append((counted, client))
        assert budget.bytes_in_use == sum(size for size, _ in taken) <= total
        for each in "abc":
            long = sum(size for size, owner in taken if owner == each and size >= LONG_BODY_BYTES)
            assert long <= max(total // 2, LONG_BODY_BYTES)
    for size, client in taken:
        budget.release(size, client)
    assert budget.bytes_in_use == 0
    assert not len(budget._long_bodies)


@pytest.mark.claim("bytes-are-bounded")
def test_one_client_does_not_take_all() -> None:
    budget = BodyBudget(10 * MIB)
    budget.take(0, 4 * MIB, "a")
    with pytest.raises(Overloaded, match="your other requests' bodies take 4194304 bytes; try again later"):
        budget.check(2 * MIB, "a")
    with pytest.raises(TooLarge, match="more than the router keeps for a client"):
        budget.check(6 * MIB, "a")
    budget.check(2 * MIB, "b")
    assert budget.refusals == 2


def head(length: int, path: str = "/generate") -> bytes:
    return b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (path.encode(), length)


async def status(client: RawClient) -> int:
    top = await within(5.0, client.reader.readuntil(b"\r\n\r\n"))
    return int(top.split()[1])


@pytest.mark.parametrize(("length", "expected"), [(9 * MIB, 413), (3 * MIB, 413)])
def test_what_is_too_long_is_refused_before_it_is_sent(length: int, expected: int) -> None:
    """Over the limit of one body, and over a client's share of all."""

    @aio
    async def test() -> None:
        limits = AdmissionSettings(body_bytes=4 * MIB)
        async with serving(FakePair(), max_body=8 * MIB, limits=limits) as router, connected(router.port) as client:
            await client.send(head(length))
            assert await status(client) == expected

    test()


@pytest.mark.claim("bytes-are-bounded")
@aio
async def test_where_there_is_no_room_bodies_are_refused_before_they_are_read() -> None:
    async with serving(FakePair(), max_body=8 * MIB, limits=AdmissionSettings(body_bytes=4 * MIB)) as router:
        async with connected(router.port) as slow, connected(router.port) as other:
            bodies = router.limits.bodies
            await slow.send(head(2 * MIB))
            await slow.send(b"x" * (MIB + MIB // 2))
            await until(lambda: bodies.bytes_in_use > MIB, "half of it is read")
            await other.send(head(MIB))
            assert await status(other) == 503
            assert (await router.post("/generate", {"text": "x"})).status_code == 200, "short ones have room"
            assert "moa_bodies_refused_total 1.0" in (await router.http.get("/metrics")).text
        await until(lambda: bodies.bytes_in_use == 0, "who left holds nothing")


@aio
async def test_a_body_counts_until_its_request_is_answered() -> None:
    pair = FakePair()
    release = asyncio.Event()

    async def held(call: Call) -> None:
        await release.wait()
        await pair.decoded(call)

    pair.decode.generate = held
    async with serving(pair) as router:
        asked = asyncio.create_task(router.post("/generate", {"text": "x" * 50_000}))
        await until(lambda: len(pair.decode.requests) == 1, "it runs")
        bodies = router.limits.bodies
        assert 50_000 < bodies.bytes_in_use < 51_000
        assert f"moa_body_bytes {float(bodies.bytes_in_use)}" in await _metrics(router)
        release.set()
        assert (await asked).status_code == 200
        await until(lambda: bodies.bytes_in_use == 0, "it is over")


async def _metrics(router: Serving) -> str:
    return (await router.http.get("/metrics")).text
