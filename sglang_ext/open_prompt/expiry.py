"""The end of prompts that nobody asks for any more, on all ranks in the same step.

Ranks that looked at their own clocks would let go of pages at different steps, find different prefixes
afterwards and wait for each other for ever. So the rank that receives requests decides, and its decision
goes to the others the way requests do: as an abort, with an id that no request has.
"""

from typing import Any

from sglang_ext.open_prompt import state
from sglang_ext.open_prompt.prefill import abort_aside

_PREFIX = "open-prompt-expired:"


def announce(result: list[Any] | None, receiver: Any) -> list[Any] | None:
    """AFTER `SchedulerRequestReceiver._pull_raw_reqs`: put what has expired first; other ranks pull nothing (None)."""
    prompts = state.prompts()
    if result is None or prompts is None or not prompts.open or receiver.ps.pp_rank != 0:
        return result
    from sglang.srt.managers.io_struct import AbortReq

    return [AbortReq(rid=_PREFIX + name) for name in prompts.expired()] + result


def take_aborts(result: None, scheduler: Any, recv_req: Any) -> None:
    """AFTER `Scheduler.abort_request`: expire what `announce` says, and forget what an abort ends."""
    prompts = state.prompts()
    if prompts is None:
        return
    if recv_req.rid.startswith(_PREFIX):
        prompts.expire(recv_req.rid.removeprefix(_PREFIX))
    else:
        abort_aside(scheduler, recv_req)
        prompts.ended("" if recv_req.abort_all else recv_req.rid)
