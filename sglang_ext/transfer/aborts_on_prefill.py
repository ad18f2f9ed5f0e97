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

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from sglang_ext.transfer.aborted_rooms import AbortedRooms, Rank, WatchedQueue
from sglang_ext.transfer.answers_to_decode import AnswersToDecode
from sglang_ext.upstream.transfer import ChunkQueue, NixlKVManager

_rooms: "WeakKeyDictionary[NixlKVManager, AbortedRooms]" = WeakKeyDictionary()
_answers: "WeakKeyDictionary[NixlKVManager, AnswersToDecode]" = WeakKeyDictionary()


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

    watched = WatchedQueue(queue, rooms_of(manager), ranks_of, fail)
    try:
        original(manager, watched, *args, **kwargs)
    finally:
        watched.end()


def acknowledge_abort(result: bool, manager: NixlKVManager, message: list[bytes]) -> None:
    """AFTER `NixlKVManager._handle_abort_notification`, which sees each message: answer an ABORT that asks for it."""
    match message:
        case [b"ABORT", room, host, port, *asked] if room.isdigit():
            rooms = rooms_of(manager)
            rooms.abort(int(room), (host, port))
            if len(asked) == 2:
                answers = _answers.get(manager)  # only this thread makes them
                if answers is None:
                    answers = _answers[manager] = AnswersToDecode(manager._zmq_ctx)
                rooms.when_quiet(int(room), partial(answers.send, host.decode(), int(asked[0]), asked[1]))
        case [b"NixlMsgGuard", room, host, port, *_] if room.isdigit():
            rooms_of(manager).reuse(int(room), (host, port))


def rooms_of(manager: NixlKVManager) -> AbortedRooms:
    """Return the rooms of one of this process's KV managers."""
    return _rooms.setdefault(manager, AbortedRooms())
