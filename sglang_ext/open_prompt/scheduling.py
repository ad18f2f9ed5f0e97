"""Decides whether segments run in a scheduler step: a pure function of what the scheduler sees.

A forward pass cannot be interrupted, so segments start one only when no ordinary request would wait for it.
All ranks of a server see the same and decide alike.
"""

from dataclasses import dataclass
from enum import Enum, auto

# An idle scheduler's step takes some 0.1 ms on a GPU server and 1 ms on a CPU one, a handshake 3 to 4 ms, or longer
# where the decode server has no room. Counted in steps, not in time, since all ranks must agree.
MAX_HOLD_STEPS = 100  # for one request's handshake, and in a row for several


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
        handshake_pending: An ordinary request is in its handshake with decode, and segments have been held for
            it in fewer than `MAX_HOLD_STEPS` steps.
        handshake_hold_steps: Steps in a row in which segments have been held for handshakes.
    """

    chunked: Chunked = Chunked.NOTHING
    ordinary_waiting: bool = False
    segment_waiting: bool = False
    pass_in_flight: bool = False
    handshake_pending: bool = False
    handshake_hold_steps: int = 0


class Action(Enum):
    """What the scheduler does with segments in one step."""

    CONTINUE_ORDINARY = auto()
    GIVE_WAY = auto()
    HOLD_FOR_PASS = auto()
    HOLD_FOR_HANDSHAKE = auto()
    RUN = auto()


@dataclass(frozen=True)
class Decision:
    """An action, and whether the segment between two chunks is parked first: it then keeps its pages and waits."""

    action: Action
    park: bool = False


def decide(view: StepView) -> Decision:
    """Decide one step. The first condition that holds counts:

    | | condition                                   | action             | what happens                            |
    |-|---------------------------------------------|--------------------|-----------------------------------------|
    |1| an ordinary request is between two chunks   | CONTINUE_ORDINARY  | SGLang schedules without segments       |
    |2| ordinary requests wait                      | GIVE_WAY           | the same; for want of room pins are     |
    | |                                             |                    | released; if none starts, a parked      |
    | |                                             |                    | segment goes on                         |
    |3| no segment is there, or an unparkable one   | RUN                | SGLang schedules all, in small chunks;  |
    | | is between two chunks                       |                    | a parked segment goes on                |
    |4| a pass is in flight                         | HOLD_FOR_PASS      | no batch                                |
    |5| a handshake is pending, and segments were   | HOLD_FOR_HANDSHAKE | no batch, and the step is counted       |
    | | held in fewer than `MAX_HOLD_STEPS` steps   |                    |                                         |
    | | in a row                                    |                    |                                         |
    |6| otherwise                                   | RUN                | as 3                                    |

    GIVE_WAY and both HOLDs first park a segment that is between two chunks.
    """
    park = view.chunked is Chunked.SEGMENT
    if view.chunked is Chunked.ORDINARY:
        return Decision(Action.CONTINUE_ORDINARY)
    if view.ordinary_waiting:
        return Decision(Action.GIVE_WAY, park)
    if view.chunked is Chunked.UNPARKABLE_SEGMENT or not (park or view.segment_waiting):
        return Decision(Action.RUN)
    if view.pass_in_flight:
        return Decision(Action.HOLD_FOR_PASS, park)
    if view.handshake_pending and view.handshake_hold_steps < MAX_HOLD_STEPS:
        return Decision(Action.HOLD_FOR_HANDSHAKE, park)
    return Decision(Action.RUN)
