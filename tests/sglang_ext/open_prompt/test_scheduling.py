"""What each decision does: segments run, are held, parked or give way."""

import gc
from typing import Any

import pytest

from sglang_ext.open_prompt.scheduler_state import OpenPromptScheduler
from sglang_ext.open_prompt.scheduling import MAX_HOLD_STEPS_FOR_ONE, MAX_HOLD_STEPS_IN_A_ROW
from sglang_ext.process_state import process_state
from tests.sglang_ext.open_prompt.fakes import FakeScheduler, final, open_prompts, ordinary, segment

pytestmark = pytest.mark.servers  # imports much of SGLang


@pytest.fixture
def scheduler() -> FakeScheduler:
    return FakeScheduler()


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, scheduler: FakeScheduler) -> OpenPromptScheduler:
    found = open_prompts(scheduler)
    monkeypatch.setattr(process_state, "_parts", {OpenPromptScheduler: found})
    return found


def test_an_ordinary_request_between_chunks_goes_on_alone(scheduler: FakeScheduler, state: OpenPromptScheduler) -> None:
    scheduler.chunked_req, scheduler.waiting_queue = ordinary(), [waiting := segment()]
    assert scheduler.plan()
    assert [seen[:2] for seen in scheduler.seen] == [([], scheduler.chunked_req)]
    assert scheduler.waiting_queue == [waiting]


def test_a_segment_is_parked_for_an_ordinary_request_and_resumed(
    scheduler: FakeScheduler, state: OpenPromptScheduler
) -> None:
    scheduler.chunked_req = parked = segment()
    scheduler.waiting_queue = [waiting := segment(), first := ordinary()]
    assert scheduler.plan()
    assert [seen[:2] for seen in scheduler.seen] == [([first], None)]
    assert (state.parked_segment, state.prompts.counters.yielded) == (parked, 1)
    scheduler.waiting_queue = [waiting]
    assert scheduler.plan()
    assert [seen[:2] for seen in scheduler.seen] == [([waiting], parked)]
    assert state.parked_segment is None


def test_without_room_pins_go_and_then_the_parked_segment_goes_on(
    monkeypatch: pytest.MonkeyPatch, scheduler: FakeScheduler, state: OpenPromptScheduler
) -> None:
    pins = [True, True]
    monkeypatch.setattr(state.prompts.pins, "release_oldest", lambda: bool(pins and pins.pop()))
    scheduler.room = False
    scheduler.chunked_req = parked = segment()
    scheduler.waiting_queue = [segment(), first := ordinary()]
    scheduler.plan()
    alone = ([first], None)
    assert [seen[:2] for seen in scheduler.seen] == [alone, alone, alone, ([first], parked)]
    assert pins == []


def test_segments_do_not_begin_while_an_ordinary_request_lacks_room(
    scheduler: FakeScheduler, state: OpenPromptScheduler
) -> None:
    scheduler.room = False
    scheduler.waiting_queue = [waiting := segment(), first := ordinary()]
    assert scheduler.plan() is None
    assert [seen[:2] for seen in scheduler.seen] == [([first], None)]
    assert scheduler.waiting_queue == [first, waiting]


def test_without_a_place_no_pin_goes_and_the_parked_segment_goes_on(
    monkeypatch: pytest.MonkeyPatch, scheduler: FakeScheduler, state: OpenPromptScheduler
) -> None:
    released: list[bool] = []
    monkeypatch.setattr(state.prompts.pins, "release_oldest", lambda: released.append(True))
    scheduler.room, scheduler.places = False, 0
    scheduler.chunked_req = parked = segment()
    scheduler.waiting_queue = [first := ordinary()]
    scheduler.plan()
    assert [seen[:2] for seen in scheduler.seen] == [([first], None), ([first], parked)]
    assert released == []


def test_handshakes_are_looked_at_only_where_a_segment_could_be_held(
    monkeypatch: pytest.MonkeyPatch, scheduler: FakeScheduler, state: OpenPromptScheduler
) -> None:
    looked: list[bool] = []

    def look() -> list[Any]:
        looked.append(True)
        return []

    monkeypatch.setattr(state, "pending_handshakes", look)
    scheduler.plan()
    scheduler.waiting_queue = [ordinary(), segment()]
    scheduler.plan()
    assert looked == []
    scheduler.waiting_queue = [segment()]
    scheduler.plan()
    assert looked == [True]


def test_an_unparkable_segment_stays_where_sglang_expects_it(
    scheduler: FakeScheduler, state: OpenPromptScheduler
) -> None:
    scheduler.chunked_req = chunked = segment(pending_bootstrap=True)
    scheduler.waiting_queue = [first := final()]
    assert scheduler.plan()
    assert [seen[:2] for seen in scheduler.seen] == [([first], chunked)]
    assert (state.parked_segment, state.prompts.counters.yielded) == (None, 0)


def test_segments_are_held_behind_a_pass(scheduler: FakeScheduler, state: OpenPromptScheduler) -> None:
    scheduler.enable_overlap, scheduler.last_batch = True, object()
    scheduler.chunked_req = chunked = segment()
    assert scheduler.plan() is None
    assert scheduler.seen == []
    assert (state.parked_segment, state.prompts.counters.held, state.hold_steps_in_a_row) == (chunked, 1, 0)
    assert state.prompts.counters.yielded == 0
    scheduler.waiting_queue = [ordinary()]
    for _ in range(3):
        assert scheduler.plan()
    assert state.prompts.counters.yielded == 1, "parked for the pass, but an ordinary request went before it"


def test_a_segment_held_for_a_handshake_has_yielded_once(
    monkeypatch: pytest.MonkeyPatch, scheduler: FakeScheduler, state: OpenPromptScheduler
) -> None:
    handshake = ordinary()
    monkeypatch.setattr(state, "pending_handshakes", lambda: [handshake])
    for parkings in (1, 2):
        scheduler.chunked_req = segment()
        assert [scheduler.plan() for _ in range(3)] == [None] * 3
        scheduler.waiting_queue = [handshake]
        assert scheduler.plan()
        assert state.prompts.counters.yielded == parkings
        scheduler.waiting_queue, state.parked_segment = [], None


def test_segments_are_held_for_each_handshake_and_in_a_row_for_a_bounded_time(
    scheduler: FakeScheduler, state: OpenPromptScheduler
) -> None:
    handshakes = scheduler.disagg_prefill_bootstrap_queue.queue

    def steps_held() -> int:
        before = state.prompts.counters.held
        while scheduler.plan() is None:
            assert scheduler.seen == []
        return state.prompts.counters.held - before

    scheduler.waiting_queue = [segment()]
    handshakes.append(segment())
    assert steps_held() == 0  # its handshake delays nobody
    handshakes.append(ordinary())
    assert steps_held() == MAX_HOLD_STEPS_FOR_ONE
    assert steps_held() == 0  # it has had its time
    handshakes.append(ordinary())
    first = MAX_HOLD_STEPS_IN_A_ROW // 2
    for _ in range(first):
        assert scheduler.plan() is None
    handshakes.append(ordinary())
    second = MAX_HOLD_STEPS_IN_A_ROW - first
    assert steps_held() == second  # in a row for both
    assert steps_held() == MAX_HOLD_STEPS_FOR_ONE - second  # what the last one has left
    assert steps_held() == 0


def test_nothing_is_remembered_of_requests_that_have_ended(
    scheduler: FakeScheduler, state: OpenPromptScheduler
) -> None:
    scheduler.waiting_queue = [segment()]
    scheduler.disagg_prefill_bootstrap_queue.queue.append(ordinary())
    scheduler.plan()
    assert len(state.hold_steps_by_request) == 1
    scheduler.disagg_prefill_bootstrap_queue.queue.clear()
    gc.collect()
    assert len(state.hold_steps_by_request) == 0


@pytest.mark.parametrize(("rid", "abort_all", "aborted"), [("req", False, True), ("", True, True), ("x", False, False)])
def test_an_abort_reaches_a_parked_segment(
    scheduler: FakeScheduler, state: OpenPromptScheduler, rid: str, abort_all: bool, aborted: bool
) -> None:
    seen: list[Any] = []
    scheduler.chunked_req = parked = segment()
    state.park()
    scheduler.chunked_req = other = ordinary()
    itself: Any = scheduler
    itself._pending_chunked_abort_req = None
    itself.process_pending_chunked_abort = lambda: seen.append((itself.chunked_req, itself._pending_chunked_abort_req))
    abort: Any = type("Abort", (), {"rid": rid, "abort_all": abort_all})
    state.abort_parked(abort)
    assert seen == ([(parked, parked)] if aborted else [])
    assert (itself.chunked_req, itself._pending_chunked_abort_req) == (other, None)
    assert state.parked_segment is (None if aborted else parked)
