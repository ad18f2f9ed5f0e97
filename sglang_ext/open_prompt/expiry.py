"""Ends expired and aborted prompts, on all ranks in the same step.

Ranks that looked at their own clocks would release pages in different steps, then find different prefixes and
wait for each other for ever. So the rank that receives requests decides, and tells the others in the way
requests go: with an abort whose id no request has.
"""

from sglang_ext.open_prompt import scheduler_state
from sglang_ext.upstream.request import AbortRequest
from sglang_ext.upstream.scheduler import Scheduler

EXPIRED_RID_PREFIX = "open-prompt-expired:"


def broadcast_expired(result: list[object] | None, receiver: object) -> list[object] | None:
    """AFTER `SchedulerRequestReceiver._pull_raw_reqs`: put expired prompts before the requests it received.

    `result` is None on ranks that receive nothing themselves.
    """
    state = scheduler_state.current()
    if result is None or state is None or not state.prompts.open:
        return result
    from sglang.srt.managers.io_struct import AbortReq

    return [AbortReq(rid=EXPIRED_RID_PREFIX + name) for name in state.prompts.expired_ids()] + result


def release_aborted(result: None, scheduler: Scheduler, recv_req: AbortRequest) -> None:
    """AFTER `Scheduler.abort_request`: forget the prompts that `broadcast_expired` names, or that an abort ends."""
    state = scheduler_state.current()
    if state is None:
        return
    if recv_req.rid.startswith(EXPIRED_RID_PREFIX):
        state.prompts.expire(recv_req.rid.removeprefix(EXPIRED_RID_PREFIX))
    else:
        state.abort_parked(recv_req)
        state.prompts.release_aborted("" if recv_req.abort_all else recv_req.rid)
