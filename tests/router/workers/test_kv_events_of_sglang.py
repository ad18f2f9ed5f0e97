"""KV events as SGLang itself publishes them, and as it says where."""

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zmq.asyncio

from router.bench.processes import free_port
from router.workers.kv_blocks import KvBlocks, TokenPath
from router.workers.kv_event_messages import EventSource, event_source
from router.workers.kv_event_stream import KvEventStream
from tests.router.support.aio import aio, until

pytestmark = pytest.mark.servers


@aio
async def test_sglangs_publisher_is_followed() -> None:
    from sglang.srt.disaggregation.kv_events import BlockRemoved, BlockStored, EventPublisherFactory, KVEventBatch
    from sglang.srt.server_args import ServerArgs

    config = (
        f'{{"publisher": "zmq", "endpoint": "tcp://*:{free_port()}", "replay_endpoint": "tcp://*:{free_port()}", '
        '"topic": "kv"}'
    )
    args: Any = SimpleNamespace(kv_events_config=config, page_size=2, dp_size=1)
    info = {"kv_events": ServerArgs.describe_kv_events_publisher(args), "kv_events_config": config}
    source = event_source("127.0.0.1", info)
    assert isinstance(source, EventSource)
    publisher = EventPublisherFactory.create(config)
    try:
        stored = [
            BlockStored(block_hashes=[7], parent_block_hash=None, token_ids=[5, 6], block_size=2, lora_id=None),
            BlockStored(block_hashes=[8], parent_block_hash=7, token_ids=[5, 7], block_size=2, lora_id=None),
        ]
        publisher.publish(KVEventBatch(ts=0.0, events=stored))
        with zmq.asyncio.Context() as context:
            blocks = KvBlocks(2)
            task = asyncio.create_task(KvEventStream(context, source, blocks).follow())
            try:
                path = TokenPath(np.array([5, 6, 5, 7], np.uint32))
                await until(lambda: blocks.match(path) == 4, "what was published before is known")
                assert blocks.complete
                publisher.publish(KVEventBatch(ts=0.0, events=[BlockRemoved(block_hashes=[8])]))
                publisher.publish(KVEventBatch(ts=0.0, events=[BlockRemoved(block_hashes=[9])]))
                await until(lambda: blocks.match(path) == 2, "what is removed is gone")
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
    finally:
        publisher.shutdown()
