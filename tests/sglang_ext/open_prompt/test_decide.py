"""The table of `decide`: when segments run, are held, parked or give way."""

from dataclasses import replace

import pytest

from sglang_ext.open_prompt.scheduling import MAX_HOLD_STEPS, Action, Chunked, Decision, StepView, decide

# Everything that could hold segments back or make them give way.
BUSY = StepView(ordinary_waiting=True, segment_waiting=True, pass_in_flight=True, handshake_pending=True)
NO_ORDINARY = replace(BUSY, ordinary_waiting=False)
HANDSHAKE = replace(NO_ORDINARY, pass_in_flight=False)

ROWS = {
    "1 ordinary between chunks": (replace(BUSY, chunked=Chunked.ORDINARY), Decision(Action.CONTINUE_ORDINARY)),
    "1 and none waits": (replace(NO_ORDINARY, chunked=Chunked.ORDINARY), Decision(Action.CONTINUE_ORDINARY)),
    "2 ordinary waits": (BUSY, Decision(Action.GIVE_WAY)),
    "2 and no segment": (StepView(ordinary_waiting=True), Decision(Action.GIVE_WAY)),
    "2 segment between chunks": (replace(BUSY, chunked=Chunked.SEGMENT), Decision(Action.GIVE_WAY, park=True)),
    "2 unparkable": (replace(BUSY, chunked=Chunked.UNPARKABLE_SEGMENT), Decision(Action.GIVE_WAY)),
    "3 no segment": (replace(NO_ORDINARY, segment_waiting=False), Decision(Action.RUN)),
    "3 unparkable": (replace(NO_ORDINARY, chunked=Chunked.UNPARKABLE_SEGMENT), Decision(Action.RUN)),
    "4 pass in flight": (NO_ORDINARY, Decision(Action.HOLD_FOR_PASS)),
    "4 held for long": (replace(NO_ORDINARY, handshake_hold_steps=MAX_HOLD_STEPS), Decision(Action.HOLD_FOR_PASS)),
    "4 segment between chunks": (
        replace(NO_ORDINARY, chunked=Chunked.SEGMENT, segment_waiting=False),
        Decision(Action.HOLD_FOR_PASS, park=True),
    ),
    "5 handshake": (HANDSHAKE, Decision(Action.HOLD_FOR_HANDSHAKE)),
    "5 last step": (
        replace(HANDSHAKE, handshake_hold_steps=MAX_HOLD_STEPS - 1),
        Decision(Action.HOLD_FOR_HANDSHAKE),
    ),
    "5 segment between chunks": (
        replace(HANDSHAKE, chunked=Chunked.SEGMENT, segment_waiting=False),
        Decision(Action.HOLD_FOR_HANDSHAKE, park=True),
    ),
    "6 held for long": (replace(HANDSHAKE, handshake_hold_steps=MAX_HOLD_STEPS), Decision(Action.RUN)),
    "6 no handshake": (replace(HANDSHAKE, handshake_pending=False), Decision(Action.RUN)),
    "6 segment between chunks": (StepView(chunked=Chunked.SEGMENT), Decision(Action.RUN)),
}


@pytest.mark.parametrize(("view", "decision"), ROWS.values(), ids=ROWS)
def test_decide(view: StepView, decision: Decision) -> None:
    assert decide(view) == decision
