"""A prefill server tells a decode server when it has stopped writing into the pages of an aborted request.

SGLang 0.5.17 marks the request as failed, but the chunk that is being sent goes on. (Its
`NixlKVManager._handle_abort_notification` has a TODO that says so.) `aborts_on_decode` asks for the
acknowledgement with one more ABORT message, in which a port and a ticket follow; the ticket is the answer. A
prefill server without the overlay reads the ABORT alone.

The answer is a message of ZeroMQ. A notification of NIXL would stay in the agent until its next transfer, since
nothing else drives an agent without progress thread.

A chunk whose transfer raises counts as ended, although other parts of it may be under way: SGLang's thread keeps
their handles to itself.
"""

import logging
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import zmq

from sglang_ext.transfer.aborted_rooms import AbortedRooms, WatchedQueue
from sglang_ext.upstream.transfer import ChunkQueue, KVManager

logger = logging.getLogger(__name__)
LINGER_MS = 10_000  # as long as `aborts_on_decode` waits
_rooms: "WeakKeyDictionary[KVManager, AbortedRooms]" = WeakKeyDictionary()


def watch_chunks(
    original: Callable[..., None], manager: KVManager, queue: ChunkQueue, *args: Any, **kwargs: Any
) -> None:
    """AROUND `NixlKVManager.transfer_worker`, a thread that sends chunks: leave out those of aborted rooms."""
    from sglang.srt.disaggregation.base.conn import KVPoll

    watched = WatchedQueue(queue, rooms_of(manager), lambda room: manager.update_status(room, KVPoll.Failed))
    try:
        original(manager, watched, *args, **kwargs)
    finally:
        watched.end()


def acknowledge_abort(result: bool, manager: KVManager, message: list[bytes]) -> None:
    """AFTER `NixlKVManager._handle_abort_notification`, which sees each message: answer an ABORT that asks for it."""
    match message:
        case [b"ABORT", room, host, port, *asked] if room.isdigit():
            rooms = rooms_of(manager)
            rooms.abort(int(room), (host, port))
            if len(asked) == 2:
                address, ticket = (host.decode(), int(asked[0])), asked[1]
                rooms.when_quiet(int(room), lambda: _answer(manager, address, ticket))
        case [b"NixlMsgGuard", room, host, port, *_] if room.isdigit():
            rooms_of(manager).reuse(int(room), (host, port))


def rooms_of(manager: KVManager) -> AbortedRooms:
    """Return the rooms of one of this process's KV managers."""
    return _rooms.setdefault(manager, AbortedRooms())


def _answer(manager: KVManager, address: tuple[str, int], ticket: bytes) -> None:
    """Send a ticket back. A socket for each: transfer threads send too, and none may wait for a lost decode server."""
    from sglang.srt.utils.network import NetworkAddress

    target = NetworkAddress(*address)
    try:
        with manager._zmq_ctx.socket(zmq.PUSH) as socket:
            socket.ipv6 = target.is_ipv6
            socket.linger = LINGER_MS
            socket.connect(target.to_tcp())
            socket.send(ticket, zmq.NOBLOCK)
    except zmq.ZMQError as error:
        logger.warning("no acknowledgement of an aborted transfer to %s: %s", target.to_tcp(), error)
