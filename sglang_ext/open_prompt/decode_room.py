"""Room on the decode server: segments keep to the budget of open prompts, and pins go before a request has to wait.

KV of open prompts is pinned, or allocated for segments whose KV has not arrived yet. Both together take no more than
the budget, or one segment.
"""

from collections.abc import Callable
from typing import Any

from sglang_ext.open_prompt import scheduler_state
from sglang_ext.open_prompt.operation import is_segment
from sglang_ext.open_prompt.pins import MAX_RELEASES
from sglang_ext.open_prompt.scheduler_state import OpenPromptScheduler
from sglang_ext.upstream.cache import MatchResult
from sglang_ext.upstream.request import Request
from sglang_ext.upstream.scheduler import Batch, DecodeRequest, PreallocQueue

Preallocated = tuple[list[DecodeRequest], list[DecodeRequest]]  # with room now, and failed
PLACES_KEPT = 4  # one place in so many is kept from segments


def preallocate_segments_last(
    original: Callable[..., Preallocated], queue: PreallocQueue, *args: Any, **kwargs: Any
) -> Preallocated:
    """AROUND `DecodePreallocQueue.pop_preallocated`, which stops at the first request that finds no room.

    Segments come last. Pins go before a request waits for KV, the oldest first, and before a newer segment does.
    """
    state = scheduler_state.in_use()
    if state is None:
        return original(queue, *args, **kwargs)
    queue.queue.sort(key=lambda waiting: is_segment(waiting.req))  # stable
    state.placing = None
    placed, failed = original(queue, *args, **kwargs)
    for _ in range(MAX_RELEASES):
        if placed or not _lacks_tokens(state, queue) or not state.prompts.pins.release_oldest():
            break
        state.placing = None
        placed, more_failed = original(queue, *args, **kwargs)
        failed += more_failed
    state.placing = None
    on_the_way = sum(each.req.extend_range.length for each in placed if is_segment(each.req))
    state.prompts.pins.shrink_to(state.prompts.pins.budget - _tokens_on_the_way(queue) - on_the_way)
    return placed, failed


def _lacks_tokens(state: OpenPromptScheduler, queue: PreallocQueue) -> bool:
    """Whether SGLang stopped for want of KV: at a request that it looked at and left where it was.

    It stops before it looks at one where places or buffers are missing. A segment may be held to the budget instead.
    """
    return not state.held_to_budget and any(waiting.req is state.placing for waiting in queue.queue)


def note_request(result: MatchResult, queue: PreallocQueue, req: Request) -> None:
    """AFTER `DecodePreallocQueue._match_prefix_and_lock`, with which SGLang begins to look for room for a request."""
    state = scheduler_state.in_use()
    if state is not None:
        state.placing, state.held_to_budget = req, False


def limit_room(result: int, queue: PreallocQueue, *args: Any, **kwargs: Any) -> int:
    """AFTER `DecodePreallocQueue._allocatable_token_budgets`: a segment finds no more room than the budget has."""
    state = scheduler_state.in_use()
    if state is None or state.placing is None or not is_segment(state.placing):
        return result
    pool, buffers = queue.req_to_token_pool, queue.req_to_metadata_buffer_idx_allocator
    has_place = all(each.available_size() > each.size // PLACES_KEPT for each in (pool, buffers))
    room = min(_room_of_segments(state, queue), _room_beside_answers(state, queue))
    limit = room + queue.num_reserved_decode_tokens if has_place else 0
    state.held_to_budget = limit < result
    return min(result, limit)


def _room_of_segments(state: OpenPromptScheduler, queue: PreallocQueue) -> int:
    on_the_way = _tokens_on_the_way(queue)
    budget = state.prompts.pins.budget
    # Alone, a segment may be longer than the budget; what of it is pinned then is not.
    return budget - on_the_way if on_the_way else state.scheduler.max_total_num_tokens


def _room_beside_answers(state: OpenPromptScheduler, queue: PreallocQueue) -> int:
    """Leave room for the longest ordinary request with its whole answer: segments on their way cannot be retracted.

    SGLang sees to it for running requests. Those that will run soon would fail for want of KV as well.
    """
    from sglang.srt.disaggregation.decode import CLIP_MAX_NEW_TOKEN

    scheduler = state.scheduler
    on_the_way = [each.req for each in _on_the_way(queue) if not is_segment(each.req)]
    longest = max(
        (
            len(req.origin_input_ids) + min(req.sampling_params.max_new_tokens or 0, CLIP_MAX_NEW_TOKEN)
            for req in [*scheduler.running_batch.reqs, *scheduler.waiting_queue, *on_the_way]
        ),
        default=0,
    )
    return scheduler.max_total_num_tokens - longest - _tokens_on_the_way(queue)


def _tokens_on_the_way(queue: PreallocQueue) -> int:
    """Count the KV that is allocated for segments and has not arrived."""
    return sum(each.req.extend_range.length for each in _on_the_way(queue) if is_segment(each.req))


def _on_the_way(queue: PreallocQueue) -> list[DecodeRequest]:
    """Return requests that have room; those placed in this step have a buffer."""
    return queue.transfer_queue.queue + [each for each in queue.queue if each.metadata_buffer_index != -1]


def discount_segments(result: int, queue: PreallocQueue, *args: Any, **kwargs: Any) -> int:
    """AFTER `DecodePreallocQueue._active_req_count`, for each of which SGLang keeps room to decode; segments do not."""
    if scheduler_state.in_use() is None:
        return result
    return result - sum(is_segment(each.req) for each in queue.transfer_queue.queue)


def release_before_retraction(original: Callable[..., bool], batch: Batch, *args: Any, **kwargs: Any) -> bool:
    """AROUND `ScheduleBatch.check_decode_mem`: pins go before a running request is retracted."""
    fits = original(batch, *args, **kwargs)
    state = scheduler_state.in_use()
    while not fits and state is not None and state.prompts.pins.release_oldest():
        fits = original(batch, *args, **kwargs)
    return fits


def release_for_retracted(
    original: Callable[..., list[Request]], queue: PreallocQueue, *args: Any, **kwargs: Any
) -> list[Request]:
    """AROUND `DecodePreallocQueue.resume_retracted_reqs`: pins go before a retracted request waits.

    While one waits, SGLang ends no transfer, so segments that have arrived keep their KV and lock what is cached of
    their prompts. They end here, before the KV that they hold is missed by those that run as well. Where nothing runs
    that could make room all transfers end, or the request would wait for ever.
    """
    resumed = original(queue, *args, **kwargs)
    state = scheduler_state.in_use()
    if state is None:
        return resumed
    while (
        not resumed
        and queue.retracted_queue
        and queue.req_to_token_pool.available_size() > 0
        and state.prompts.pins.release_oldest()
    ):
        resumed = original(queue, *args, **kwargs)
    if resumed or not queue.retracted_queue:
        return resumed
    if not state.scheduler.running_batch.reqs and not state.scheduler.waiting_queue:
        return queue.transfer_queue.pop_transferred()
    segments = [each.req.rid for each in queue.transfer_queue.queue if is_segment(each.req)]
    return queue.transfer_queue.pop_transferred(segments) if segments else []
