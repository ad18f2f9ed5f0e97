"""Decides what the prefill scheduler does with segments in a step, from what it sees and nothing else.

A forward pass cannot be interrupted, so segments start one only when no ordinary request would wait for it.
All ranks of a server see the same and decide alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from sglang_ext.upstream.request import Request

# An idle scheduler's step takes some 0.1 ms on a GPU server and 1 ms on a CPU one, a handshake 3 to 4 ms, or longer
# where the decode server has no room. Counted in steps, not in time, since all ranks must agree.
MAX_HOLD_STEPS_FOR_ONE = 100  # in which segments are held for the handshake of one request
MAX_HOLD_STEPS_IN_A_ROW = 100  # in which they are held for handshakes before they run once


class Chunked(Enum):
    """What stands between two chunks of its prefill; SGLang has one such request at most, `chunked_req`."""

    NOTHING = auto()
    ORDINARY = auto()
    SEGMENT = auto()
    # Prefilled before its handshake has ended (`--optimistic-prefill-attempts`): SGLang frees its pages itself when
    # it pauses, and expects its next chunk in the next step.
    UNPARKABLE_SEGMENT = auto()


@dataclass(frozen=True)
class StepView:
    """What the prefill scheduler sees in one step.

    Ordinary requests include final requests of open prompts.

    Attributes:
        chunked: What stands between two chunks.
        ordinary_waiting: Ordinary requests are in the waiting queue.
        segment_waiting: A segment is in the waiting queue or parked.
        pass_in_flight: The overlap scheduler plans behind a pass that may end with an ordinary request waiting.
        hold_steps_in_a_row: Steps in which segments were held for handshakes since they last ran.
        handshakes: Returns the ordinary requests in their handshake with decode for which segments were held in fewer
            than `MAX_HOLD_STEPS_FOR_ONE` steps. It looks through a queue, so it is called only if it decides the step.
    """

    chunked: Chunked = Chunked.NOTHING
    ordinary_waiting: bool = False
    segment_waiting: bool = False
    pass_in_flight: bool = False
    hold_steps_in_a_row: int = 0
    handshakes: Callable[[], Sequence[Request]] = tuple


class Step(Enum):
    """What the scheduler does in one step; the table of `decide` has the conditions."""

    ORDINARY_GOES_ON = auto()
    ORDINARY_FIRST = auto()
    PARKED_GOES_ON = auto()
    UNPARKABLE_GOES_ON = auto()
    NO_SEGMENT = auto()
    HELD_FOR_PASS = auto()
    HELD_FOR_HANDSHAKE = auto()
    SEGMENTS_RUN = auto()


PARKS_FIRST = frozenset((Step.ORDINARY_FIRST, Step.HELD_FOR_PASS, Step.HELD_FOR_HANDSHAKE))


@dataclass(frozen=True)
class Decision:
    """What to do in one step.

    Attributes:
        step: What SGLang is asked for.
        park: Before that, the segment between two chunks is parked: it keeps its pages and waits.
        handshakes: The requests for whose handshakes segments are held.
    """

    step: Step
    park: bool = False
    handshakes: Sequence[Request] = ()


def decide(view: StepView) -> Decision:
    """Decide one step. The first condition that holds counts:

    |  | condition                                  | step               | SGLang schedules                    |
    |--|--------------------------------------------|--------------------|-------------------------------------|
    |1 | an ordinary request is between two chunks  | ORDINARY_GOES_ON   | ordinary requests                   |
    |2 | ordinary requests wait                     | ORDINARY_FIRST     | ordinary requests                   |
    |2a| then: none started, and a segment is       | PARKED_GOES_ON     | the parked segment in a small       |
    |  | parked                                     |                    | chunk, and ordinary requests        |
    |3 | an unparkable segment is between two       | UNPARKABLE_GOES_ON | everything, in small chunks         |
    |  | chunks                                     |                    |                                     |
    |4 | no segment waits or is between two chunks  | NO_SEGMENT         | everything, in small chunks         |
    |5 | a pass is in flight                        | HELD_FOR_PASS      | nothing                             |
    |6 | ordinary requests are in their handshake,  | HELD_FOR_HANDSHAKE | nothing, and the step is counted    |
    |  | within both limits                         |                    |                                     |
    |7 | otherwise                                  | SEGMENTS_RUN       | everything, in small chunks; a      |
    |  |                                            |                    | parked segment goes on              |

    In rows 2, 5 and 6, a segment between two chunks is parked first, unless it is unparkable. In rows 2, 2a, 3, 4 and
    7, pins are released if KV is what the first request lacks. Row 2a is decided by `decide_again`.
    """
    handshakes: Sequence[Request] = ()
    if view.chunked is Chunked.ORDINARY:
        step = Step.ORDINARY_GOES_ON
    elif view.ordinary_waiting:
        step = Step.ORDINARY_FIRST
    elif view.chunked is Chunked.UNPARKABLE_SEGMENT:
        step = Step.UNPARKABLE_GOES_ON
    elif not (view.segment_waiting or view.chunked is Chunked.SEGMENT):
        step = Step.NO_SEGMENT
    elif view.pass_in_flight:
        step = Step.HELD_FOR_PASS
    elif view.hold_steps_in_a_row < MAX_HOLD_STEPS_IN_A_ROW and (handshakes := view.handshakes()):
        step = Step.HELD_FOR_HANDSHAKE
    else:
        step = Step.SEGMENTS_RUN
    return Decision(step, view.chunked is Chunked.SEGMENT and step in PARKS_FIRST, handshakes)


def decide_again(*, ordinary_started: bool, segment_parked: bool) -> Step | None:
    """Decide the rest of a step ORDINARY_FIRST, row 2a; None if it has ended."""
    return Step.PARKED_GOES_ON if segment_parked and not ordinary_started else None
