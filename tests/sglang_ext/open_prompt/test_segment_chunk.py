"""How many tokens of segments the scheduler's next batch takes; the scheduler itself is stood in for."""

from typing import Any

import pytest

from sglang_ext.open_prompt.scheduler_state import FULL_CHUNK_AFTER, OpenPromptScheduler
from sglang_ext.process_state import process_state
from tests.sglang_ext.open_prompt.fakes import USUAL_CHUNK, FakeScheduler, final, open_prompts, ordinary, segment

pytestmark = pytest.mark.servers  # imports much of SGLang

SEGMENT, FINAL, ORDINARY = segment(), final(), ordinary()
HALF, WHOLE = 256, 512  # of 500, in pages of 16


@pytest.fixture
def scheduler() -> FakeScheduler:
    return FakeScheduler()


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, scheduler: FakeScheduler) -> OpenPromptScheduler:
    found = open_prompts(scheduler, segment_chunk=500)
    monkeypatch.setattr(process_state, "_parts", {OpenPromptScheduler: found})
    return found


def batch(scheduler: FakeScheduler, *waiting: Any, room: bool = True) -> int:
    """The prefill chunk that SGLang saw last."""
    scheduler.waiting_queue, scheduler.room = list(waiting), room
    scheduler.plan()
    return scheduler.seen[-1][2]


def test_segments_run_in_halves_until_ordinary_requests_stay_away(scheduler: FakeScheduler) -> None:
    assert batch(scheduler, SEGMENT) == WHOLE
    for _ in range(2):
        assert batch(scheduler, SEGMENT, ORDINARY) == USUAL_CHUNK  # it goes first
        chunks = [batch(scheduler, SEGMENT) for _ in range(FULL_CHUNK_AFTER + 2)]
        assert chunks == [HALF] * FULL_CHUNK_AFTER + [WHOLE] * 2


def test_a_final_request_is_no_sign_of_others(scheduler: FakeScheduler) -> None:
    assert batch(scheduler, SEGMENT, FINAL) == USUAL_CHUNK
    assert batch(scheduler, SEGMENT) == WHOLE


def test_steps_without_a_batch_of_segments_do_not_count(scheduler: FakeScheduler) -> None:
    batch(scheduler, ORDINARY)
    for _ in range(2 * FULL_CHUNK_AFTER):
        batch(scheduler)
        batch(scheduler, SEGMENT, room=False)
        batch(scheduler, SEGMENT, ORDINARY)
    assert batch(scheduler, SEGMENT) == HALF


def test_where_an_ordinary_request_finds_no_room_a_parked_segment_goes_on_in_halves(
    scheduler: FakeScheduler, state: OpenPromptScheduler
) -> None:
    scheduler.chunked_req = SEGMENT
    assert batch(scheduler, SEGMENT, ORDINARY, room=False) == HALF
    assert state.segment_batches_since_ordinary == 0
