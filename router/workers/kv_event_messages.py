"""KV events as servers publish them: msgpack in ZeroMQ messages, SGLang's and vLLM's."""

from collections.abc import Iterator
from typing import Any

import msgspec

from router.workers.kv_blocks import KvBlocks

BlockHash = int | bytes
_MAX_PORT = 65_535
_WILDCARDS = ("*", "0.0.0.0", "::", "[::]")  # noqa: S104 - what a server says it listens on


class _BlockStored(msgspec.Struct, tag="BlockStored", array_like=True):
    block_hashes: list[BlockHash]
    parent_block_hash: BlockHash | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None = None
    medium: str | None = None


class _BlockRemoved(msgspec.Struct, tag="BlockRemoved", array_like=True):
    block_hashes: list[BlockHash]
    medium: str | None = None


class _AllBlocksCleared(msgspec.Struct, tag="AllBlocksCleared", array_like=True):
    pass


class _EventBatch(msgspec.Struct, array_like=True):
    ts: float
    events: list[_BlockStored | _BlockRemoved | _AllBlocksCleared]


class EventSource(msgspec.Struct, frozen=True):
    """Where a server publishes its events.

    Attributes:
        address: Of the events, as ZeroMQ has it.
        replay_address: Where events of late can be had again, or None.
        topic: What its messages begin with.
        block_size: Tokens of a block.
    """

    address: str
    replay_address: str | None
    topic: bytes
    block_size: int


_BATCH = msgspec.msgpack.Decoder(_EventBatch)


def event_source(host: str, server_info: dict[str, Any]) -> EventSource | str | None:
    """Where the server on a host publishes its events, by its `/server_info`.

    Returns:
        None if it publishes none, and one sentence if they cannot be used.
    """
    told = server_info.get("kv_events")
    if not isinstance(told, dict):
        return None
    port, topic = told.get("endpoint_port_base"), told.get("topic", "")
    size: Any = told.get("block_size")
    if told.get("publisher") != "zmq" or not _is_port(port) or not _is_count(size) or not isinstance(topic, str):
        return "its `kv_events` are not as those of SGLang."
    if told.get("endpoint_host") not in _WILDCARDS:
        return "it connects to a subscriber instead of listening: give it an endpoint like tcp://*:5557."
    if told.get("dp_size", 1) != 1:
        return "it has several data-parallel ranks, each with a cache of its own."
    return EventSource(f"tcp://{host}:{port}", _replay_address(host, server_info), topic.encode(), size)


def apply_events(payload: bytes, blocks: KvBlocks) -> Iterator[None]:
    """Apply a message's events one by one, as it is iterated; raises `msgspec.MsgspecError` at one of another form."""
    blocks.heard()
    for event in _BATCH.decode(payload).events:
        match event:
            case _BlockStored(lora_id=None):
                blocks.store(event.block_hashes, event.parent_block_hash, event.token_ids, event.medium)
            case _BlockRemoved():
                blocks.remove(event.block_hashes, event.medium)
            case _AllBlocksCleared():
                blocks.clear()
        yield


def _replay_address(host: str, server_info: dict[str, Any]) -> str | None:
    """Where events can be had again: only the server's own flag tells it."""
    try:
        config = msgspec.json.decode(server_info.get("kv_events_config") or "{}")
        endpoint = config.get("replay_endpoint") or ""
        port = int(endpoint.rpartition(":")[2])
    except (msgspec.MsgspecError, AttributeError, TypeError, ValueError):
        return None
    return f"tcp://{host}:{port}" if endpoint.startswith("tcp://") and _is_port(port) else None


def _is_port(value: Any) -> bool:
    return _is_count(value) and value <= _MAX_PORT


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
