"""A prefill server tells a decode server when it has stopped writing into the pages of an aborted request.

SGLang 0.5.17 marks the request as failed, but goes on to send the chunk that it has begun. (A TODO in its
`NixlKVManager._handle_abort_notification` says so.) `aborts_on_decode` asks with one more ABORT message, which also has
a port and a ticket; the ticket is sent back to the port. A prefill server without the overlay reads the ABORT alone.

The answer is a ZeroMQ message. A notification of NIXL would stay in the agent until its next transfer, since nothing
else drives an agent without progress thread.

A chunk whose transfer raises counts as ended, although parts of it may be under way: only SGLang's thread has their
handles.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sglang_ext.process_state import process_state
from sglang_ext.transfer.aborted_rooms import AbortedRooms, Rank, WatchedQueue
from sglang_ext.transfer.answers_to_decode import AnswersToDecode
from sglang_ext.upstream.transfer import ChunkQueue, NixlKVManager


@dataclass
class AbortsOnPrefill:
    """What a prefill server knows of aborted requests. The threads of its one KV manager share it.

    Attributes:
        rooms: Which rooms are being sent, and which are aborted.
        answers: Sockets of the KV manager's context; None until a decode server asks. The thread that receives
            messages makes them.
    """

    rooms: AbortedRooms = field(default_factory=AbortedRooms)
    answers: AnswersToDecode | None = None


def watch_chunks(
    original: Callable[..., None], manager: NixlKVManager, queue: ChunkQueue, *args: Any, **kwargs: Any
) -> None:
    """AROUND `NixlKVManager.transfer_worker`, a thread that sends chunks: leave out those of aborted rooms."""
    from sglang.srt.disaggregation.base.conn import KVPoll

    def ranks_of(room: int) -> set[Rank]:
        # A copy, since the thread that receives messages adds to it.
        infos = list(manager.transfer_infos.get(room, {}).values())
        return {(info.endpoint.encode(), str(info.dst_port).encode()) for info in infos}

    def fail(room: int) -> None:
        manager.update_status(room, KVPoll.Failed)

    watched = WatchedQueue(queue, process_state.get(AbortsOnPrefill).rooms, ranks_of, fail)
    try:
        original(manager, watched, *args, **kwargs)
    finally:
        watched.end()


def acknowledge_abort(result: bool, manager: NixlKVManager, message: list[bytes]) -> None:
    """AFTER `NixlKVManager._handle_abort_notification`, which sees each message: answer an ABORT that asks for it."""
    aborts = process_state.get(AbortsOnPrefill)
    match message:
        case [b"ABORT", room, host, port, *asked] if room.isdigit():
            aborts.rooms.abort(int(room), (host, port))
            if len(asked) == 2:
                if aborts.answers is None:
                    aborts.answers = AnswersToDecode(manager._zmq_ctx)
                send = partial(aborts.answers.send, host.decode(), int(asked[0]), asked[1])
                aborts.rooms.when_quiet(int(room), send)
        case [b"NixlMsgGuard", room, host, port, *_] if room.isdigit():
            aborts.rooms.reuse(int(room), (host, port))
