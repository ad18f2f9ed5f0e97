"""Open prompts in the decode server's scheduler."""

from collections.abc import Callable
from typing import Any

from sglang_ext.open_prompt import replies, state
from sglang_ext.open_prompt.protocol import is_segment, mark_of


def ordinary_first(original: Callable[..., Any], queue: Any, *args: Any, **kwargs: Any) -> Any:
    """AROUND `DecodePreallocQueue.pop_preallocated`, which stops at the first request that finds no room.

    Segments come last, and an ordinary request that finds no room takes a pin away.
    """
    prompts = state.prompts()
    if prompts is None or not prompts.used:
        return original(queue, *args, **kwargs)
    queue.queue.sort(key=lambda waiting: is_segment(waiting.req))  # stable
    preallocated, failed = original(queue, *args, **kwargs)
    if not preallocated and any(waiting.waiting_for_input and not is_segment(waiting.req) for waiting in queue.queue):
        prompts.pins.take_oldest()
    return preallocated, failed


def keep_segments(result: list[Any], queue: Any, *args: Any, **kwargs: Any) -> list[Any]:
    """AFTER `DecodeTransferQueue.pop_transferred`: a segment ends here, its KV stays in the radix cache."""
    prompts = state.prompts()
    if prompts is None or not prompts.used:
        return result
    from sglang.srt.managers.schedule_batch import FINISH_LENGTH
    from sglang.srt.mem_cache.common import release_kv_cache

    for req in result:
        mark = mark_of(req)
        if mark is None:
            continue
        if mark.op == "final":  # it holds its pages itself now
            prompts.close(mark.id)
            continue
        req.output_ids.pop()  # what stands in for the token that prefill did not sample
        release_kv_cache(req, queue.tree_cache)
        prompts.ready(mark, req)
        req.finished_reason = FINISH_LENGTH(length=0)
        req.time_stats.set_completion_time()
        replies.answer(req)
    return [req for req in result if not is_segment(req)]
