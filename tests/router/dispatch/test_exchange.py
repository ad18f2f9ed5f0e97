"""One request on a pair whose servers fail on purpose.

The two servers are real asyncio HTTP servers, but fakes of SGLang: only so can a leg refuse, hang or
die at an exact moment. What a real pair does is tested in tests/e2e.
"""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from router.dispatch.exchange import Exchange
from router.dispatch.exchange_request import ExchangeRequest
from router.errors import BadRequest, ConnectFailed, ConnectionLost, RouterError, UpstreamFailed
from router.http.body import Body
from router.workers.registry import Registry
from router.workers.worker import Pair, Worker
from tests.router.support.aio import SLOW, aio, run, until, within
from tests.router.support.dispatching import dispatcher_for
from tests.router.support.fakes import Call, FakePair, Handler, chat_event, chunk, head, started, whole


class Rig:
    """A fake pair and a dispatcher over it."""

    def __init__(self, fakes: FakePair) -> None:
        self.fakes = fakes
        self.pair = Pair(Worker(fakes.prefill.url, "prefill", 1), Worker(fakes.decode.url, "decode"))
        self.dispatcher = dispatcher_for(Registry([self.pair.prefill, self.pair.decode]))

    @asynccontextmanager
    async def exchange(self, body: dict[str, Any] | None = None) -> AsyncIterator[Exchange]:
        async with self.dispatcher.exchange(
            self.pair, ExchangeRequest("/generate", Body(body or {"text": "x", "rid": "mine"}))
        ) as exchange:
            assert self.loads[1] == 1, "decode is busy until the end, prefill until its own answer"
            assert self.loads[0] in {0, 1}
            yield exchange

    async def ask(self, body: dict[str, Any] | None = None) -> bytes:
        async with self.exchange(body) as exchange:
            return b"".join([piece async for piece in exchange.body()])

    @property
    def loads(self) -> list[int]:
        return [self.pair.prefill.load.requests, self.pair.decode.load.requests]

    @property
    def aborted(self) -> list[int]:
        """How many aborts of this test's request each server got."""
        return [
            sum(rid.startswith("mine-") for rid in worker.aborted) for worker in (self.fakes.prefill, self.fakes.decode)
        ]

    async def settled(self, aborted: list[int]) -> None:
        """The exchange left nothing behind and told exactly these servers to abort."""
        assert self.loads == [0, 0]
        await self.dispatcher.close()
        assert self.aborted == aborted
        self.dispatcher.registry.close()
        for worker in (self.fakes.prefill, self.fakes.decode):
            await until(lambda worker=worker: not worker.server.open, f"{worker.role} is free")  # type: ignore[misc]


@asynccontextmanager
async def rig(prefill: Handler | None = None, decode: Handler | None = None) -> AsyncIterator[Rig]:
    fakes = FakePair()
    fakes.prefill.generate = prefill or fakes.prefill.generate
    fakes.decode.generate = decode or fakes.decode.generate
    async with started(fakes):
        yield Rig(fakes)


async def hangs(call: Call) -> None:
    await call.gone()


async def drops(call: Call) -> None:
    call.drop()


def refuses(status: int, words: str, after: float = 0.0) -> Handler:
    async def handler(call: Call) -> None:
        await asyncio.sleep(after)
        await call.answer({"error": {"message": words}}, status)

    return handler


async def streams_forever(call: Call) -> None:
    await call.stream(chat_event("one"))
    await call.gone()


@aio
async def test_both_servers_get_the_same_body_at_once() -> None:
    """The fake prefill answers only after decode got the room: awaiting it first would never end."""
    async with rig() as r:
        for _ in range(3):
            assert b"one two" in await within(3.0, r.ask())
        prefill, decode = r.fakes.prefill.requests, r.fakes.decode.requests
        assert [call.body for call in prefill] == [call.body for call in decode]
        assert prefill[0].json["bootstrap_port"] == 1
        assert len({call.json["bootstrap_room"] for call in prefill}) == 3
        assert (r.fakes.prefill.server.accepted, r.fakes.decode.server.accepted) == (1, 1), "connections are reused"
        await r.settled([0, 0])


@aio
async def test_streamed_pieces_come_as_they_are_sent() -> None:
    step = asyncio.Event()

    async def decode(call: Call) -> None:
        r.fakes.room(call).set()
        await call.stream(chat_event("one"))
        await step.wait()
        await call.event(chat_event("two", "stop"))
        await call.done()

    async with rig(decode=decode) as r:
        async with r.exchange() as exchange:
            body = exchange.body()
            assert b"one" in await within(3.0, anext(body))
            step.set()
            assert b"two" in b"".join([piece async for piece in body])
            assert exchange.finished
        await r.settled([0, 0])


@pytest.mark.parametrize(("status", "told"), [(400, 400), (413, 400), (422, 400), (401, 502), (404, 502), (503, 502)])
def test_what_a_client_sent_wrong_is_its_own_fault(status: int, told: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where only prefill says so; a key or a path that a server does not know is the router's."""
    monkeypatch.setattr("router.dispatch.exchange.DECODE_REFUSAL_TIMEOUT", 0.1)

    async def test() -> None:
        async with rig(refuses(status, "no"), hangs) as r:
            with pytest.raises(UpstreamFailed) as refused:
                await within(3.0, r.ask())
            assert refused.value.status == told
            await r.settled([1, 1])

    run(test)


@aio
async def test_prefill_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.dispatch.exchange.DECODE_REFUSAL_TIMEOUT", 0.1)
    async with rig(refuses(503, "the queue is full"), hangs) as r:
        with pytest.raises(UpstreamFailed, match=r"^the prefill server refused the request with 503: the queue is"):
            await within(3.0, r.ask())
        await r.settled([1, 1])


@aio
async def test_both_refuse_and_decodes_words_are_the_answer() -> None:
    async with rig(refuses(400, "from prefill"), refuses(400, "from decode", after=0.1)) as r:
        async with r.exchange() as exchange:
            assert exchange.decode.status == 400
            assert b"from decode" in b"".join([piece async for piece in exchange.body()])
        await r.settled([1, 1])


@pytest.mark.parametrize("prefill_after", [0.0, 0.05])
def test_prefill_refuses_while_decode_streams_nothing(prefill_after: float) -> None:
    """Decode's status line alone is no answer: it would wait for KV that never comes."""

    async def decode(call: Call) -> None:
        await asyncio.sleep(0.02)
        await call.stream()
        await call.gone()

    async def test() -> None:
        async with rig(refuses(503, "full", prefill_after), decode) as r:
            with pytest.raises(UpstreamFailed, match="503: full"):
                await within(3.0, r.ask())
            await r.settled([1, 1])

    run(test)


def gives_up(words: str, after: float = 0.0) -> Handler:
    """As SGLang tells a stream that its request was refused or aborted: with 200."""

    async def handler(call: Call) -> None:
        await call.stream()
        await asyncio.sleep(after)
        reason = {"type": "abort", "message": words, "status_code": 400}
        await call.event({"text": "", "meta_info": {"finish_reason": reason}})
        await call.done()

    return handler


@aio
async def test_prefill_gives_up_in_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads that stream, and decode would wait for its KV for minutes."""
    monkeypatch.setattr("router.dispatch.exchange.DECODE_REFUSAL_TIMEOUT", 0.1)

    async def decode(call: Call) -> None:
        await call.stream()
        await call.gone()

    async with rig(gives_up("not known here", 0.05), decode) as r:
        with pytest.raises(UpstreamFailed, match="the prefill server gave the request up: not known here"):
            await within(3.0, r.ask())
        await r.settled([1, 1])


@aio
async def test_both_give_up_in_their_streams_and_decodes_words_are_the_answer() -> None:
    async with rig(gives_up("from prefill"), gives_up("from decode", after=0.1)) as r:
        answer = await within(3.0, r.ask())
        assert b"from decode" in answer
        assert b"[DONE]" in answer


@aio
async def test_decode_gives_up_in_its_stream() -> None:
    async with rig(hangs, gives_up("no room")) as r:
        assert b"no room" in await within(3.0, r.ask())
        await r.settled([1, 1])


@aio
async def test_both_answer_in_the_same_moment() -> None:
    """Prefill's answer counts even when both legs are there before the router looks."""
    both = asyncio.Barrier(2)

    async def prefill(call: Call) -> None:
        await both.wait()
        await call.answer({"from": "prefill"})

    async def decode(call: Call) -> None:
        await both.wait()
        await call.answer({"from": "decode"})

    async with rig(prefill, decode) as r:
        for _ in range(20):
            async with r.exchange() as exchange:
                assert b"decode" in b"".join([piece async for piece in exchange.body()])
                assert b"prefill" in await within(3.0, exchange.prefill_body())
        await r.settled([0, 0])


@aio
async def test_decode_refuses() -> None:
    async with rig(hangs, refuses(400, "too long")) as r:
        async with r.exchange() as exchange:
            assert exchange.decode.status == 400
            assert b"too long" in b"".join([piece async for piece in exchange.body()])
        await r.settled([1, 1])


@pytest.mark.parametrize("dead", ["prefill", "decode"])
def test_a_server_that_is_not_there(dead: str) -> None:
    async def test() -> None:
        async with rig(hangs, hangs) as r:
            gone = getattr(r.fakes, dead).server
            await gone.__aexit__()
            with pytest.raises(ConnectFailed, match=f"{gone.url} cannot be reached"):
                await within(3.0, r.ask())
            await r.settled([0, 1] if dead == "prefill" else [1, 0])

    run(test)


@pytest.mark.parametrize("dead", ["prefill", "decode"])
def test_a_server_that_drops_the_connection(dead: str) -> None:
    async def test() -> None:
        async with rig(drops if dead == "prefill" else hangs, drops if dead == "decode" else hangs) as r:
            url = getattr(r.fakes, dead).url
            with pytest.raises(ConnectionLost, match=f"{url} closed the connection without an answer"):
                await within(3.0, r.ask())
            await r.settled([1, 1])

    run(test)


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_a_room_is_entered_once(role: str) -> None:
    """A leg whose kept connection is cut is not sent again into the same room: it fails, and is tried in a new one."""

    async def test() -> None:
        async with rig() as r:
            await r.ask()
            r.fakes.decode.generate = hangs  # as it would without KV
            fake = getattr(r.fakes, role)
            fake.generate = drops
            with pytest.raises(ConnectionLost):
                await within(3.0, r.ask())
            assert len(fake.requests) == 2
            await r.settled([1, 1])

    run(test)


@pytest.mark.parametrize(
    "answered", [b"", head(200, ("content-length", "9")), head(200, ("content-length", "9")) + b"x"]
)
@pytest.mark.parametrize("decode", [hangs, streams_forever])
def test_prefill_dies_later(answered: bytes, decode: Handler) -> None:
    """Before or after its status line, while decode is silent or streams."""

    async def prefill(call: Call) -> None:
        await call.send(answered)
        await asyncio.sleep(0.03)
        call.drop()

    async def test() -> None:
        async with rig(prefill, decode) as r:
            with pytest.raises(ConnectionLost, match=f"{r.fakes.prefill.url} closed the connection"):
                await within(3.0, r.ask())
            await r.settled([1, 1])

    run(test)


@aio
async def test_prefill_dies_while_the_caller_holds_a_piece() -> None:
    die = asyncio.Event()

    async def prefill(call: Call) -> None:
        await die.wait()
        call.drop()

    async with rig(prefill, streams_forever) as r:
        async with r.exchange() as exchange:
            body = exchange.body()
            assert b"one" in await anext(body)
            die.set()
            await asyncio.sleep(0.05)  # a client that reads slowly
            with pytest.raises(ConnectionLost, match=r.fakes.prefill.url):
                await within(3.0, anext(body))
        await r.settled([1, 1])


@aio
async def test_decode_dies_in_the_middle() -> None:
    async def decode(call: Call) -> None:
        r.fakes.room(call).set()
        await call.stream(chat_event("one"))
        await asyncio.sleep(0.02)
        call.drop()

    async with rig(decode=decode) as r:
        with pytest.raises(ConnectionLost, match=f"{r.fakes.decode.url} closed the connection before its answer"):
            await within(3.0, r.ask())
        await r.settled([1, 1])


@pytest.mark.parametrize(
    ("prefill", "decode"), [(hangs, hangs), (hangs, streams_forever), (None, hangs), (None, streams_forever)]
)
def test_a_caller_that_is_cancelled(prefill: Handler | None, decode: Handler) -> None:
    """As when a client leaves: both connections are closed and both servers told."""

    async def test() -> None:
        async with rig(prefill, decode) as r:
            task = asyncio.create_task(r.ask())
            await until(
                lambda: len(r.fakes.prefill.requests) == len(r.fakes.decode.requests) == 1, "both servers were asked"
            )
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await r.settled([1, 1])

    run(test)


@aio
async def test_cancelled_at_any_moment() -> None:
    """However far the exchange is, a cancelled caller leaves no load, no connection and no task."""
    async with rig() as r:
        ended = 0
        for delay in range(40):
            task = asyncio.create_task(r.ask())
            await asyncio.sleep(delay / 20000)
            task.cancel()
            ended += isinstance((await asyncio.gather(task, return_exceptions=True))[0], bytes)
            assert r.loads == [0, 0]
        assert ended < 40, "nothing was cancelled"
        await r.dispatcher.close()
        r.dispatcher.registry.close()
        await until(lambda: not r.fakes.prefill.server.open and not r.fakes.decode.server.open, "all is closed")


@aio
async def test_cancelled_while_it_waits_for_prefills_last_bytes() -> None:
    async def prefill(call: Call) -> None:
        await call.send(head(200, ("transfer-encoding", "chunked")) + chunk(b"{}"))
        await call.gone()

    async with rig(prefill, lambda call: call.answer({})) as r:
        begun: list[Exchange] = []

        async def ask() -> None:
            async with r.exchange() as exchange:
                begun.append(exchange)
                assert b"".join([piece async for piece in exchange.body()]) == b"{}"

        task = asyncio.create_task(ask())
        await until(lambda: bool(begun) and begun[0].finished, "decode's answer is whole, prefill's is not")
        assert not task.done(), "the exchange waits a moment"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await r.settled([0, 0])


@aio
async def test_a_caller_that_stops_reading() -> None:
    async with rig(decode=streams_forever) as r:
        async with r.exchange() as exchange:
            assert b"one" in await anext(exchange.body())
        await r.settled([1, 1])


@aio
async def test_a_batch_is_aborted_by_each_of_its_ids() -> None:
    async with rig(hangs, hangs) as r:
        task = asyncio.create_task(r.ask({"text": ["x", "y", "z"], "rid": "mine"}))
        await until(lambda: len(r.fakes.decode.requests) == 1, "decode was asked")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await r.settled([3, 3])
        assert sorted(r.fakes.decode.aborted) == sorted(r.fakes.decode.requests[0].json["rid"])


@aio
async def test_aborts_do_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the abort and never ends its answer keeps no task and no connection."""

    async def stuck(call: Call) -> None:
        if call.path == "/abort_request":
            await call.send(head(200, ("content-length", "9")))
        await call.gone()

    monkeypatch.setattr("router.dispatch.background_posts.POST_TIMEOUT", 0.1)
    async with rig() as r:
        r.fakes.prefill.server.handler = r.fakes.decode.server.handler = stuck
        task = asyncio.create_task(r.ask())
        await until(lambda: len(r.fakes.decode.server.calls) == 1, "decode was asked")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await r.settled([1, 1])


@aio
async def test_what_cannot_be_sent_on_is_refused_before_anything_is_counted() -> None:
    nested: list[Any] = []
    for _ in range(400):
        nested = [nested]
    async with rig() as r:
        for body in ({"text": "x", "a": nested}, {"text": "x", "rid": 7}):
            with pytest.raises(BadRequest):
                await r.ask(body)
            assert r.loads == [0, 0]
        assert r.fakes.decode.requests == []


@pytest.mark.claim("workers-may-misbehave")
@aio
async def test_many_at_once_with_faults_leave_nothing() -> None:
    """Good, refused, dropped and abandoned requests together: every counter returns to 0."""
    rooms: dict[str, asyncio.Event] = {}

    def kind(call: Call) -> str:
        return str(call.json["text"])

    async def prefill(call: Call) -> None:
        if kind(call) == "prefill drops":
            call.drop()
        elif kind(call) == "abandoned":
            await call.gone()
        else:
            await rooms.setdefault(str(call.json["bootstrap_room"]), asyncio.Event()).wait()
            await call.send(whole(b"{}"))

    async def decode(call: Call) -> None:
        rooms.setdefault(str(call.json["bootstrap_room"]), asyncio.Event()).set()
        if kind(call) == "decode drops":
            call.drop()
        elif kind(call) == "refused":
            await call.answer({}, 400)
        elif kind(call) in {"abandoned", "prefill drops"}:
            await call.gone()
        else:
            await call.answer({"room": call.json["bootstrap_room"]})

    async def ask(r: Rig, number: int) -> str:
        what = ("good", "prefill drops", "decode drops", "refused", "abandoned")[number % 5]
        try:
            async with (
                asyncio.timeout(0.2 if what == "abandoned" else SLOW * 5.0),
                r.dispatcher.exchange(r.pair, ExchangeRequest("/generate", Body({"text": what}))) as exchange,
            ):
                answer = b"".join([piece async for piece in exchange.body()])
        except RouterError as error:
            assert what in {"prefill drops", "decode drops"}
            return type(error).__name__
        except TimeoutError:
            assert what == "abandoned"
            return "timeout"
        assert (exchange.decode.status == 400) == (what == "refused")
        return "answer" if answer else "empty"

    async with rig(prefill, decode) as r:
        ends = await asyncio.gather(*(ask(r, number) for number in range(60)))
        assert [ends.count(end) for end in ("answer", "ConnectionLost", "timeout")] == [24, 24, 12]
        assert r.loads == [0, 0]
        await r.dispatcher.close()
        r.dispatcher.registry.close()
        await until(lambda: not r.fakes.prefill.server.open and not r.fakes.decode.server.open, "all is closed")


@aio
async def test_a_long_body_is_freed_with_its_exchange() -> None:
    """At once, not when the garbage collector comes: with few but long requests that would be much later."""
    async with rig() as r:
        gc.collect()
        gc.disable()
        try:
            await within(3.0, r.ask())
            assert not [each for each in gc.get_objects() if isinstance(each, Exchange)]
        finally:
            gc.enable()
