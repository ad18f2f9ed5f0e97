"""Ends segments on the decode server once their KV has arrived."""

from typing import Any

from sglang_ext.open_prompt import replies, scheduler_state
from sglang_ext.open_prompt.operation import is_segment, operation_of
from sglang_ext.upstream.request import Request
from sglang_ext.upstream.scheduler import TransferQueue


def finish_segments(result: list[Request], queue: TransferQueue, *args: Any, **kwargs: Any) -> list[Request]:
    """AFTER `DecodeTransferQueue.pop_transferred`: end segments here; their KV stays in the radix cache."""
    state = scheduler_state.in_use()
    if state is None:
        return result
    from sglang.srt.managers.schedule_batch import FINISH_LENGTH
    from sglang.srt.mem_cache.common import release_kv_cache

    for req in result:
        operation = operation_of(req)
        if operation is None:
            continue
        if operation.op == "final":  # the request itself holds its pages now
            state.prompts.close(operation.id)
            continue
        req.output_ids.pop()  # stands for the token that prefill did not sample
        release_kv_cache(req, queue.tree_cache)
        state.prompts.pin_segment(operation, req)
        req.finished_reason = FINISH_LENGTH(length=0)
        req.time_stats.set_completion_time()
        replies.send_finish(state.scheduler, req)
    return [req for req in result if not is_segment(req)]
