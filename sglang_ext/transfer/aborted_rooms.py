"""Which rooms a prefill server is sending, and which of them decode servers have aborted."""

import threading
from collections import Counter
from collections.abc import Callable

from sglang_ext.upstream.transfer import ChunkQueue, TransferChunk

# To remember: a chunk may wait in a queue when its request is aborted, and the last of thousands has long been taken.
MAX_ABORTED = 10_000

Rank = tuple[bytes, ...]  # the address of one rank of a decode server


class AbortedRooms:
    """Chunks in flight by room, aborted rooms, and acknowledgements that wait until nothing of a room is in flight.

    The thread that receives messages and all transfer threads share it. Callbacks are called without the lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_flight: Counter[int] = Counter()
        self._aborted: dict[int, set[Rank]] = {}  # the oldest first
        self._waiting: dict[int, list[Callable[[], None]]] = {}

    def begin(self, room: int, ranks: set[Rank]) -> bool:
        """Count a chunk as in flight; False if one of the ranks it goes to has aborted it, so that it must not be sent.

        A room that another decode server has aborted is another request's. Without ranks, SGLang has forgotten an
        aborted room and where it goes.
        """
        with self._lock:
            aborted = self._aborted.get(room)
            if aborted is not None and (not ranks or aborted & ranks):
                return False
            self._in_flight[room] += 1
            return True

    def end(self, room: int) -> None:
        """A chunk is no longer in flight; acknowledge what waited for that."""
        with self._lock:
            self._in_flight[room] -= 1
            if self._in_flight[room]:
                return
            del self._in_flight[room]
            waiting = self._waiting.pop(room, [])
        for acknowledge in waiting:
            acknowledge()

    def abort(self, room: int, rank: Rank) -> None:
        """Begin no chunk of a room any more: one of the ranks it goes to may use its pages for others."""
        with self._lock:
            self._aborted.setdefault(room, set()).add(rank)
            if len(self._aborted) > MAX_ABORTED:
                del self._aborted[next(iter(self._aborted))]

    def when_quiet(self, room: int, acknowledge: Callable[[], None]) -> None:
        """Call `acknowledge` once: now, or as soon as no chunk of the room, aborted before, is in flight."""
        with self._lock:
            if room in self._in_flight:
                self._waiting.setdefault(room, []).append(acknowledge)
                return
        acknowledge()

    def reuse(self, room: int, rank: Rank) -> None:
        """A rank gives new pages for a room, so it is another request's."""
        with self._lock:
            ranks = self._aborted.get(room, set())
            ranks.discard(rank)
            if not ranks:
                self._aborted.pop(room, None)


class WatchedQueue:
    """A transfer thread's queue: when the thread asks for the next chunk, it has ended the last one.

    Args:
        queue: SGLang's.
        rooms: Where chunks are counted.
        ranks_of: Gives the ranks that a room's chunks go to.
        fail: Called with the room of a chunk that is left out.
    """

    def __init__(
        self,
        queue: ChunkQueue,
        rooms: AbortedRooms,
        ranks_of: Callable[[int], set[Rank]],
        fail: Callable[[int], None],
    ) -> None:
        self._queue, self._rooms, self._ranks_of, self._fail = queue, rooms, ranks_of, fail
        self._sending: int | None = None

    def put(self, item: TransferChunk) -> None:
        """Add a chunk; the transfer thread itself does so with one that cannot be sent yet."""
        self._queue.put(item)

    def get(self) -> TransferChunk:
        """Wait for the next chunk whose room is not aborted, and take it."""
        self.end()
        while True:
            chunk = self._queue.get()
            if self._rooms.begin(chunk.room, self._ranks_of(chunk.room)):
                self._sending = chunk.room
                return chunk
            self._fail(chunk.room)

    def end(self) -> None:
        """The last chunk has ended, if there was one."""
        room, self._sending = self._sending, None
        if room is not None:
            self._rooms.end(room)
