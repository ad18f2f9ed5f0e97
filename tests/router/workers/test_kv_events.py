"""KV events: what blocks a server holds, followed over real sockets, with what was missed."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq.asyncio

from router.errors import RouterError
from router.workers.kv_blocks import KvBlocks, TokenPath
from router.workers.kv_event_messages import EventSource, event_source
from router.workers.kv_event_monitor import KvEventMonitor, KvEventSettings
from router.workers.kv_event_stream import KvEventStream
from router.workers.registry import Registry
from router.workers.worker import Worker
from router.workers.worker_report import WorkerReport
from tests.router.support.aio import aio, until
from tests.router.support.kv_publisher import CLEARED, KvPublisher, removed, stored

INFO = {"publisher": "zmq", "endpoint_host": "*", "endpoint_port_base": 5557, "topic": "t", "block_size": 16}


def path(*ids: int) -> TokenPath:
    return TokenPath(np.array(ids, np.uint32))


def held(*ids: int, size: int = 2) -> KvBlocks:
    """The blocks of one prompt, numbered from 1 on."""
    blocks = KvBlocks(size)
    blocks.store(range(1, len(ids) // size + 1), None, ids)
    return blocks


def test_a_prompt_is_found_as_far_as_its_blocks_go() -> None:
    blocks = held(5, 6, 7, 8)
    assert [blocks.match(path(*ids)) for ids in ([5, 6, 7, 8, 9], [5, 6, 7, 9], [5, 6, 7], [5], [6, 5])] == [
        4,
        2,
        2,
        0,
        0,
    ]


def test_blocks_follow_their_parents() -> None:
    blocks = held(5, 6)
    blocks.store([10], 1, [7, 8])
    blocks.store([11], 99, [7, 8])  # of a parent that nobody told of
    assert (blocks.match(path(5, 6, 7, 8)), blocks.match(path(7, 8)), len(blocks)) == (4, 0, 2)
    blocks.remove([10])
    assert blocks.match(path(5, 6, 7, 8)) == 2


def test_a_block_is_gone_when_no_memory_has_it() -> None:
    blocks = KvBlocks(2)
    for medium in ("GPU", "CPU_PINNED"):
        blocks.store([1], None, [5, 6], medium)
    blocks.remove([1], "GPU")
    assert blocks.match(path(5, 6)) == 2
    blocks.remove([1], "CPU_PINNED")
    assert blocks.match(path(5, 6)) == len(blocks) == 0


def test_memory_is_bounded_and_what_did_not_fit_is_no_secret() -> None:
    blocks = KvBlocks(2, max_blocks=10)
    blocks.clear()
    for number in range(30):
        blocks.store([number], None, [number, number])
    assert len(blocks) == 10
    assert not blocks.complete
    assert (blocks.match(path(29, 29)), blocks.match(path(3, 3))) == (0, 2)
    blocks.remove([3])
    blocks.store([40], None, [40, 40])
    assert blocks.match(path(40, 40)) == 2, "there is room again"


def test_many_prompts_are_found_as_by_comparing_all() -> None:
    rng, blocks, prompts = random.Random(4), KvBlocks(4), []
    hashes: dict[tuple[int, ...], int] = {}
    for _ in range(60):
        ids = [rng.randrange(3) for _ in range(4 * rng.randrange(1, 8))]
        prompts.append(ids)
        for end in range(4, len(ids) + 1, 4):
            number = hashes.setdefault(tuple(ids[:end]), len(hashes))
            blocks.store([number], hashes[tuple(ids[: end - 4])] if end > 4 else None, ids[end - 4 : end])
    for _ in range(200):
        ids = [*rng.choice(prompts)[: rng.randrange(20)], *(rng.randrange(3) for _ in range(rng.randrange(1, 12)))]
        longest = max((end for end in range(4, len(ids) + 1, 4) if tuple(ids[:end]) in hashes), default=0)
        assert blocks.match(path(*ids)) == longest


def test_events_that_stop_are_trusted_no_more() -> None:
    now = 0.0
    blocks = KvBlocks(2, clock=lambda: now)
    now = 1_000
    assert blocks.trusted, "nothing was asked of it"
    blocks.asked()
    now = 1_020
    blocks.asked()
    assert blocks.trusted
    now = 1_031
    assert not blocks.trusted
    blocks.heard()
    assert blocks.trusted


@pytest.mark.parametrize(
    ("info", "found"),
    [
        ({}, None),
        ({"kv_events": None}, None),
        ({"kv_events": INFO}, EventSource("tcp://h:5557", None, b"t", 16)),
        (
            {"kv_events": INFO, "kv_events_config": '{"replay_endpoint": "tcp://*:5558"}'},
            EventSource("tcp://h:5557", "tcp://h:5558", b"t", 16),
        ),
        ({"kv_events": INFO, "kv_events_config": "nonsense"}, EventSource("tcp://h:5557", None, b"t", 16)),
        ({"kv_events": {**INFO, "endpoint_port_base": 70_000}}, "its `kv_events` are not as those of SGLang."),
        ({"kv_events": {**INFO, "block_size": True}}, "its `kv_events` are not as those of SGLang."),
        (
            {"kv_events": {**INFO, "endpoint_host": "10.0.0.1"}},
            "it connects to a subscriber instead of listening: give it an endpoint like tcp://*:5557.",
        ),
        (
            {"kv_events": {**INFO, "dp_size": 2}},
            "it has several data-parallel ranks, each with a cache of its own.",
        ),
    ],
)
def test_where_a_server_publishes(info: dict[str, Any], found: EventSource | str | None) -> None:
    assert event_source("h", info) == found


@asynccontextmanager
async def followed(publisher: KvPublisher) -> AsyncIterator[tuple[KvEventStream, KvBlocks]]:
    """A publisher's events, followed from now on."""
    source = event_source("127.0.0.1", publisher.server_info)
    assert isinstance(source, EventSource)
    with zmq.asyncio.Context() as context:
        blocks = KvBlocks(source.block_size)
        stream = KvEventStream(context, source, blocks)
        task = asyncio.create_task(stream.follow())
        try:
            await publisher.subscribed()
            await until(lambda: bool(publisher.replays), "it asked for what was before")
            yield stream, blocks
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@aio
async def test_what_came_before_is_asked_for() -> None:
    async with KvPublisher() as publisher:
        await publisher.publish(stored([1, 2], None, [5, 6, 7, 8]))
        async with followed(publisher) as (_, blocks):
            await until(lambda: blocks.match(path(5, 6, 7, 8)) == 4, "all is known")
            assert blocks.complete
            await publisher.publish(removed([2]))
            await until(lambda: blocks.match(path(5, 6, 7, 8)) == 2, "one is gone")
            await publisher.publish(CLEARED)
            await until(lambda: len(blocks) == 0, "all are gone")


@aio
async def test_missed_events_are_asked_for_again() -> None:
    async with KvPublisher() as publisher, followed(publisher) as (stream, blocks):
        await publisher.publish(stored([1], None, [5, 6]))
        await until(lambda: len(blocks) == 1, "the first came")
        await publisher.publish(stored([2], 1, [7, 8]), lost=True)
        await publisher.publish(stored([3], 2, [9, 9]))
        await until(lambda: blocks.match(path(5, 6, 7, 8, 9, 9)) == 6, "all three are known")
        assert publisher.replays == [0, 1]
        assert (stream.gaps, blocks.complete, len(blocks)) == (0, True, 3)


@aio
async def test_events_that_nobody_has_any_more_are_a_gap() -> None:
    async with KvPublisher() as publisher, followed(publisher) as (stream, blocks):
        await publisher.publish(stored([1], None, [5, 6]))
        await until(lambda: len(blocks) == 1, "the first came")
        await publisher.publish(removed([1]), lost=True, keep=False)
        await publisher.publish(stored([3], None, [9, 9]))
        await until(lambda: stream.gaps == 1, "the gap was seen")
        await until(lambda: blocks.match(path(9, 9)) == 2, "what is new is known")
        assert blocks.match(path(5, 6)) == 0, "it may be gone"
        assert not blocks.complete
        await publisher.publish(CLEARED)
        await until(lambda: blocks.complete, "an empty cache is known")


@aio
async def test_a_new_process_begins_anew() -> None:
    async with KvPublisher() as publisher, followed(publisher) as (_, blocks):
        for number in range(3):
            await publisher.publish(stored([number], None, [number, number]))
        await until(lambda: len(blocks) == 3, "all came")
        publisher.number, publisher.kept = 0, {}
        await publisher.publish(stored([7], None, [7, 7]))
        await until(lambda: blocks.match(path(7, 7)) == 2, "the new one came")
        assert len(blocks) == 1
        assert blocks.complete


@aio
async def test_events_of_another_form_are_not_used() -> None:
    async with KvPublisher() as publisher:
        worker = Worker("http://127.0.0.1:1", "plain", models=("m",), healthy=True)
        worker.report = WorkerReport(kv_event_source=event_source("127.0.0.1", publisher.server_info))
        monitor = KvEventMonitor(Registry([worker]), KvEventSettings(enabled=True), ["plain"])
        task = asyncio.create_task(monitor.run())
        try:
            await publisher.subscribed()
            await until(lambda: worker.kv_blocks is not None, "it is followed")
            await publisher.send(msgspec.msgpack.encode(["no", "events"]))
            await until(lambda: worker.kv_blocks is None, "it is given up")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def test_the_flag_needs_pyzmq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zmq.asyncio", None)
    KvEventMonitor(Registry([]), KvEventSettings(), ["plain"])
    with pytest.raises(RouterError, match="--kv-events needs pyzmq; install it beside the router"):
        KvEventMonitor(Registry([]), KvEventSettings(enabled=True), ["plain"])
