"""What SGLang tells of a request's times with `--enable-metrics`."""

import asyncio
from pathlib import Path

import orjson
import pytest

from router.moa.server_times import server_times
from tests.router.moa.test_tree_runs import CHAT, Agents
from tests.router.support.aio import aio
from tests.router.support.fakes import SSE, Call, native_event, whole
from tests.router.support.serving import serving


def event(text: str, **meta: float) -> bytes:
    return orjson.dumps({"text": text, "meta_info": {"id": "x", **meta}})


PREFILL = b"data: " + event("", forward_entry_time=100.2, prefill_finished_time=100.5, queue_time=0.125) + b"\n\n"


def test_queue_prefill_and_transfer_of_a_pair() -> None:
    decode = event('a text with "queue_time": 9', forward_entry_time=100.7, queue_time=0.0625)
    assert server_times(PREFILL, decode) == pytest.approx({"queue": 0.1875, "prefill": 0.3, "transfer": 0.1375})


def test_the_handshake_lasts_until_the_decode_server_has_room() -> None:
    told = {"forward_entry_time": 100.2, "prefill_finished_time": 100.5, "queue_time": 0.125}
    prefill = event("", **told, request_received_ts=97.0, api_server_dispatch_finish_ts=98.0)
    decode = event("", forward_entry_time=100.7, queue_time=0.0625)
    seconds = {"handshake": 2.075, "queue": 0.1875, "prefill": 0.3, "transfer": 0.1375}
    assert server_times(prefill, decode) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("prefill", "decode"),
    [(b"", b""), (PREFILL, event("")), (event("only text"), event("", queue_time=1.0, forward_entry_time=2.0))],
)
def test_servers_that_do_not_tell(prefill: bytes, decode: bytes) -> None:
    assert server_times(prefill, decode) == {}


def test_clocks_of_two_hosts_make_no_negative_times() -> None:
    decode = event("", forward_entry_time=90.0, queue_time=0.0)
    assert server_times(PREFILL, decode)["transfer"] == 0.0


@aio
async def test_a_trace_has_what_the_servers_of_a_pair_told(agents: Agents, trees: Path) -> None:
    prefilled = asyncio.Event()

    async def prefill(call: Call) -> None:
        if await call.waits_for(agents.pair.room(call)):
            await call.send(whole(PREFILL, 200, *SSE))
            if "<system>p1</system>" in Agents.prompt(call):
                prefilled.set()

    async def p1(call: Call) -> None:
        await prefilled.wait()
        event = native_event("says p1, done", "stop", (10, 3))
        event["meta_info"] |= {"forward_entry_time": 100.7, "queue_time": 0.0625}
        await call.stream(event)
        await call.done()

    agents.pair.prefill.generate = prefill
    agents.answer["p1"] = p1
    async with serving(agents.pair, trees=trees) as router:
        told = (await router.post("/v1/chat/completions", CHAT)).json()["moa"]["agents"]
    seconds = {agent["agent"]: agent["server_seconds"] for agent in told}
    assert seconds["p1"] == pytest.approx({"queue": 0.1875, "prefill": 0.3, "transfer": 0.1375})
    assert seconds["p2"] == {}, "its decode server told nothing"
