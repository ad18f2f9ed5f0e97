"""Publishes KV events as SGLang does: numbered messages, and on request those of late again."""

import asyncio
from typing import Any, Self

import msgspec
import zmq
import zmq.asyncio

END = (-1).to_bytes(8, "big", signed=True)


def stored(hashes: list[int], parent: int | None, ids: list[int], medium: str = "GPU") -> list[Any]:
    """The event that blocks were stored."""
    return ["BlockStored", hashes, parent, ids, len(ids) // len(hashes), None, medium]


def removed(hashes: list[int], medium: str = "GPU") -> list[Any]:
    """The event that blocks were removed."""
    return ["BlockRemoved", hashes, medium]


CLEARED = ["AllBlocksCleared"]


class KvPublisher:
    """A server's publisher, in an `async with` block.

    Attributes:
        kept: The messages that can be had again, by their numbers.
        replays: The numbers from which messages were asked for.
    """

    def __init__(self) -> None:
        self.kept: dict[int, bytes] = {}
        self.replays: list[int] = []
        self.number = 0

    async def __aenter__(self) -> Self:
        self._context = zmq.asyncio.Context()
        self._events = self._context.socket(zmq.XPUB)  # as PUB, and it is seen when somebody subscribes
        self._asked = self._context.socket(zmq.ROUTER)
        for socket in (self._events, self._asked):
            socket.setsockopt(zmq.LINGER, 0)
        self.port = self._events.bind_to_random_port("tcp://127.0.0.1")
        self.replay_port = self._asked.bind_to_random_port("tcp://127.0.0.1")
        self._task = asyncio.create_task(self._replay())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._events.close()
        self._asked.close()
        self._context.term()

    @property
    def server_info(self) -> dict[str, Any]:
        """What `/server_info` of its server has."""
        told = {"publisher": "zmq", "endpoint_host": "*", "endpoint_port_base": self.port, "topic": "", "dp_size": 1}
        config = {"replay_endpoint": f"tcp://*:{self.replay_port}"}
        return {"kv_events": {**told, "block_size": 2}, "kv_events_config": msgspec.json.encode(config).decode()}

    async def subscribed(self) -> None:
        """Somebody subscribes."""
        await self._events.recv()

    async def publish(self, *events: Any, lost: bool = False, keep: bool = True) -> None:
        """Publish a message; one that is `lost` reaches nobody."""
        payload = msgspec.msgpack.encode([0.0, list(events), 0])
        if keep:
            self.kept[self.number] = payload
        if not lost:
            await self.send(payload)
        self.number += 1

    async def send(self, payload: bytes) -> None:
        """Send bytes as a message's payload."""
        await self._events.send_multipart([b"", self.number.to_bytes(8, "big"), payload])

    async def _replay(self) -> None:
        while True:
            client, _, start = await self._asked.recv_multipart()
            first = int.from_bytes(start, "big")
            self.replays.append(first)
            for number, payload in self.kept.items():
                if number >= first:
                    await self._asked.send_multipart([client, b"", number.to_bytes(8, "big"), payload])
            await self._asked.send_multipart([client, b"", END, b""])
