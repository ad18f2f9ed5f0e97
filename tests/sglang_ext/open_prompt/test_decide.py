"""The table of `decide`: when segments run, are held, parked or give way."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from sglang_ext.open_prompt.scheduling import (
    MAX_HOLD_STEPS_IN_A_ROW,
    Chunked,
    Decision,
    Step,
    StepView,
    decide,
    decide_again,
)


def not_looked_at() -> Sequence[Any]:
    pytest.fail("the step is decided without handshakes")


HANDSHAKES: list[Any] = ["a request"]
# Everything that could hold segments back or make them give way.
BUSY = StepView(ordinary_waiting=True, segment_waiting=True, pass_in_flight=True, handshakes=not_looked_at)
NO_ORDINARY = replace(BUSY, ordinary_waiting=False)
HANDSHAKE = replace(NO_ORDINARY, pass_in_flight=False, handshakes=lambda: HANDSHAKES)
LONG_HELD = replace(HANDSHAKE, hold_steps_in_a_row=MAX_HOLD_STEPS_IN_A_ROW, handshakes=not_looked_at)

ROWS: dict[str, tuple[StepView, Decision]] = {
    "1 ordinary between chunks": (replace(BUSY, chunked=Chunked.ORDINARY), Decision(Step.ORDINARY_GOES_ON)),
    "1 and none waits": (replace(NO_ORDINARY, chunked=Chunked.ORDINARY), Decision(Step.ORDINARY_GOES_ON)),
    "2 ordinary waits": (BUSY, Decision(Step.ORDINARY_FIRST)),
    "2 and no segment": (StepView(ordinary_waiting=True), Decision(Step.ORDINARY_FIRST)),
    "2 segment between chunks": (replace(BUSY, chunked=Chunked.SEGMENT), Decision(Step.ORDINARY_FIRST, park=True)),
    "2 unparkable": (replace(BUSY, chunked=Chunked.UNPARKABLE_SEGMENT), Decision(Step.ORDINARY_FIRST)),
    "3 unparkable": (replace(NO_ORDINARY, chunked=Chunked.UNPARKABLE_SEGMENT), Decision(Step.UNPARKABLE_GOES_ON)),
    "4 no segment": (replace(NO_ORDINARY, segment_waiting=False), Decision(Step.NO_SEGMENT)),
    "5 pass in flight": (NO_ORDINARY, Decision(Step.HELD_FOR_PASS)),
    "5 held for long": (replace(LONG_HELD, pass_in_flight=True), Decision(Step.HELD_FOR_PASS)),
    "5 segment between chunks": (
        replace(NO_ORDINARY, chunked=Chunked.SEGMENT, segment_waiting=False),
        Decision(Step.HELD_FOR_PASS, park=True),
    ),
    "6 handshake": (HANDSHAKE, Decision(Step.HELD_FOR_HANDSHAKE, handshakes=HANDSHAKES)),
    "6 last step": (
        replace(HANDSHAKE, hold_steps_in_a_row=MAX_HOLD_STEPS_IN_A_ROW - 1),
        Decision(Step.HELD_FOR_HANDSHAKE, handshakes=HANDSHAKES),
    ),
    "6 segment between chunks": (
        replace(HANDSHAKE, chunked=Chunked.SEGMENT, segment_waiting=False),
        Decision(Step.HELD_FOR_HANDSHAKE, park=True, handshakes=HANDSHAKES),
    ),
    "7 held for long": (LONG_HELD, Decision(Step.SEGMENTS_RUN)),
    "7 no handshake": (replace(HANDSHAKE, handshakes=tuple), Decision(Step.SEGMENTS_RUN)),
    "7 segment between chunks": (StepView(chunked=Chunked.SEGMENT), Decision(Step.SEGMENTS_RUN)),
}


@pytest.mark.parametrize(("view", "decision"), ROWS.values(), ids=ROWS)
def test_decide(view: StepView, decision: Decision) -> None:
    assert decide(view) == decision


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("parked", [False, True])
def test_a_parked_segment_goes_on_when_no_ordinary_request_started(started: bool, parked: bool) -> None:
    expected = Step.PARKED_GOES_ON if parked and not started else None
    assert decide_again(ordinary_started=started, segment_parked=parked) is expected
