"""Orders of chunks, aborts and questions: what is acknowledged, and what is still sent."""

from collections import Counter, deque
from functools import partial
from queue import Empty
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sglang_ext.transfer import aborted_rooms
from sglang_ext.transfer.aborted_rooms import AbortedRooms, WatchedQueue

ROOMS = st.integers(1, 3)
RANKS = st.sampled_from([(b"10.0.0.1", b"1"), (b"10.0.0.1", b"2")])
WORKERS = st.integers(0, 1)


class Chunks(deque[Any]):
    """A queue that is empty at once where SGLang's waits."""

    def get(self) -> Any:
        if not self:
            raise Empty
        return self.popleft()

    put = deque.append


class Transfers(RuleBasedStateMachine):
    """Two transfer threads, and the thread that receives messages."""

    def __init__(self) -> None:
        super().__init__()
        self.rooms = AbortedRooms()
        self.failed: list[int] = []
        self.chunks = [Chunks(), Chunks()]
        self.queues = [WatchedQueue(each, self.rooms, self.ranks_of, self.failed.append) for each in self.chunks]
        self.sending: list[int | None] = [None, None]  # the model: the room of each thread's chunk
        self.aborted: dict[int, set[Any]] = {}
        self.goes_to: dict[int, set[Any]] = {}
        self.asked: Counter[int] = Counter()
        self.acknowledged: Counter[int] = Counter()

    def ranks_of(self, room: int) -> set[Any]:
        return self.goes_to.get(room, set())

    def is_aborted(self, room: int) -> bool:
        ranks = self.ranks_of(room)
        return any(not ranks or rank in ranks for rank in self.aborted.get(room, ()))

    @rule(room=ROOMS, ranks=st.sets(RANKS))
    def goes(self, room: int, ranks: set[Any]) -> None:
        self.goes_to[room] = ranks

    @rule(worker=WORKERS, room=ROOMS)
    def put(self, worker: int, room: int) -> None:
        self.queues[worker].put(SimpleNamespace(room=room))

    @rule(worker=WORKERS)
    def next_chunk(self, worker: int) -> None:
        """Also after a transfer that raised: SGLang's thread then goes on with the next one."""
        self.sending[worker] = None
        waiting = [chunk.room for chunk in self.chunks[worker]]
        self.failed.clear()
        try:
            self.sending[worker] = self.queues[worker].get().room
        except Empty:
            assert self.failed == waiting
        else:
            dropped = waiting.index(next(room for room in waiting if not self.is_aborted(room)))
            assert (self.failed, self.sending[worker]) == (waiting[:dropped], waiting[dropped])

    @rule(worker=WORKERS)
    def thread_ends(self, worker: int) -> None:
        self.sending[worker] = None
        self.queues[worker].end()

    @rule(room=ROOMS, rank=RANKS)
    def abort(self, room: int, rank: Any) -> None:
        self.rooms.abort(room, rank)
        self.aborted.setdefault(room, set()).add(rank)

    @rule(room=ROOMS, rank=RANKS)
    def abort_and_ask(self, room: int, rank: Any) -> None:
        self.abort(room, rank)
        number = len(self.asked)
        self.asked[number] = room
        self.rooms.when_quiet(room, partial(self.acknowledge, number))

    def acknowledge(self, number: int) -> None:
        assert self.asked[number] not in self.sending, "a chunk of the room is in flight"
        self.acknowledged[number] += 1

    @precondition(lambda self: self.aborted)
    @rule(room=ROOMS, rank=RANKS)
    def reuse(self, room: int, rank: Any) -> None:
        self.rooms.reuse(room, rank)
        self.aborted.get(room, set()).discard(rank)
        if not self.aborted.get(room, {0}):
            del self.aborted[room]

    @invariant()
    def all_that_is_quiet_is_acknowledged_once(self) -> None:
        quiet = {number for number, room in self.asked.items() if room not in self.sending}
        assert quiet <= set(self.acknowledged)
        assert set(self.acknowledged.values()) <= {1}

    def teardown(self) -> None:
        for worker in range(2):
            self.thread_ends(worker)
        assert set(self.acknowledged) == set(self.asked)
        assert set(self.acknowledged.values()) <= {1}
        assert not self.rooms._in_flight
        assert not self.rooms._waiting


TestTransfers = Transfers.TestCase
TestTransfers.settings = settings(deadline=None)


def test_few_aborted_rooms_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aborted_rooms, "MAX_ABORTED", 2)
    rooms = AbortedRooms()
    for room in range(5):
        rooms.abort(room, (b"10.0.0.1", b"1"))
    assert [rooms.begin(room, set()) for room in range(5)] == [True, True, True, False, False]
