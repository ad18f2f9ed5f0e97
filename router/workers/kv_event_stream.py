"""Follows one server's KV events: subscribes, asks for what was missed, and notices gaps and new processes."""

import asyncio
import logging
from contextlib import closing
from typing import TYPE_CHECKING

from router.workers.kv_blocks import KvBlocks
from router.workers.kv_event_messages import EventSource, apply_events

if TYPE_CHECKING:
    import zmq.asyncio

logger = logging.getLogger(__name__)

QUEUED_MESSAGES = 10_000  # of one server that wait here to be read; beyond it ZeroMQ drops new ones, and a gap is seen
MAX_MESSAGE_BYTES = 2**24
REPLAY_SECS = 10.0  # for all events that were missed
SLICE = 256  # events that are applied without letting others run
_END_OF_REPLAY = (-1).to_bytes(8, "big", signed=True)


class KvEventStream:
    """The events of one process of a server.

    Args:
        context: Makes sockets.
        source: Where the server publishes.
        blocks: Where its events are applied.

    Attributes:
        gaps: How often events were lost for good.
    """

    def __init__(self, context: "zmq.asyncio.Context", source: EventSource, blocks: KvBlocks) -> None:
        self._context = context
        self._source = source
        self._blocks = blocks
        self._expected = 0  # the number of the next message
        self._heard = -1  # the number of the last message that came by itself
        self.gaps = 0

    async def follow(self) -> None:
        """Apply events as they come, until cancelled; raises `msgspec.MsgspecError` at one of another form."""
        import zmq

        with closing(self._context.socket(zmq.SUB)) as events:
            _bound(events)
            events.setsockopt(zmq.SUBSCRIBE, self._source.topic)
            events.connect(self._source.address)
            await self._catch_up()
            while True:
                frames = await events.recv_multipart()
                if len(frames) == 3 and len(frames[1]) == 8:
                    await self._receive(int.from_bytes(frames[1], "big"), frames[2])

    async def _receive(self, number: int, payload: bytes) -> None:
        if number <= self._heard:  # they count upwards: it is another process
            self._blocks.lose()
            self._expected = 0
            await self._catch_up()
        self._heard = number
        if number > self._expected:
            await self._catch_up()
        if number > self._expected:
            self.gaps += 1
            self._blocks.lose()
            self._expected = number
        if number == self._expected:
            await self._apply(number, payload)

    async def _apply(self, number: int, payload: bytes) -> None:
        if number == 0:  # the first event of a process, whose cache is empty before it
            self._blocks.lose()
            self._blocks.complete = True
        self._expected = number + 1
        for count, _ in enumerate(apply_events(payload, self._blocks), 1):
            if count % SLICE == 0:
                await asyncio.sleep(0)

    async def _catch_up(self) -> None:
        """Ask for events from the expected one on, where the server keeps some, and apply those that follow on it."""
        import zmq

        if self._source.replay_address is None:
            return
        try:
            with closing(self._context.socket(zmq.DEALER)) as asking:
                _bound(asking)
                asking.connect(self._source.replay_address)
                async with asyncio.timeout(REPLAY_SECS):
                    await asking.send_multipart([b"", self._expected.to_bytes(8, "big")])
                    while len(frames := await asking.recv_multipart()) == 3 and frames[1] != _END_OF_REPLAY:
                        await self._replayed(int.from_bytes(frames[1], "big"), frames[2])
        except TimeoutError:
            logger.info("%s did not tell the KV events before %d in time.", self._source.replay_address, self._expected)

    async def _replayed(self, number: int, payload: bytes) -> None:
        if number > self._expected:  # older ones are kept no more
            self.gaps += 1
            self._blocks.lose()
            self._expected = number
        if number == self._expected:
            await self._apply(number, payload)


def _bound(socket: "zmq.asyncio.Socket") -> None:
    import zmq

    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, QUEUED_MESSAGES)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.IPV6, 1)
