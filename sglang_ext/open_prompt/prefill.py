"""Open prompts in the prefill server's scheduler: carries out what `scheduling.decide` says."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sglang_ext.open_prompt import scheduler_state
from sglang_ext.open_prompt.operation import is_segment, operation_of
from sglang_ext.open_prompt.pins import MAX_RELEASES
from sglang_ext.open_prompt.scheduler_state import OpenPromptScheduler
from sglang_ext.open_prompt.scheduling import Chunked, Step, StepView, decide, decide_again
from sglang_ext.upstream.request import Request
from sglang_ext.upstream.scheduler import Batch, BootstrapQueue, NextBatchPlan, PrefillAdder, Scheduler

GetNewBatch = Callable[[Scheduler, Batch], NextBatchPlan]


def disable_sampling(result: None, queue: BootstrapQueue, req: Request) -> None:
    """AFTER `PrefillBootstrapQueue._process_req`, which lets every request generate one token."""
    if is_segment(req):
        req.sampling_params.max_new_tokens = 0


def schedule_segments_last(original: GetNewBatch, scheduler: Scheduler, running_batch: Batch) -> NextBatchPlan:
    """AROUND `Scheduler.get_new_batch_prefill`: segments run when no ordinary request can."""
    state = scheduler_state.in_use()
    if state is None:
        return original(scheduler, running_batch)
    decision = decide(view_step(state))
    if decision.park:
        state.park()
    match decision.step:
        case Step.ORDINARY_GOES_ON:
            return _schedule_ordinary(original, scheduler, running_batch)
        case Step.ORDINARY_FIRST:
            plan = _schedule_ordinary_first(original, state, running_batch)
            started, parked = plan.batch_to_run is not None, state.parked_segment is not None
            if decide_again(ordinary_started=started, segment_parked=parked) is Step.PARKED_GOES_ON:
                return _schedule_parked(original, state, plan.running_batch)
            return plan
        case Step.HELD_FOR_PASS | Step.HELD_FOR_HANDSHAKE:
            state.count_held(decision.handshakes)
            return _no_batch(running_batch)
    # UNPARKABLE_GOES_ON, NO_SEGMENT, SEGMENTS_RUN
    return _schedule_all(original, state, running_batch)


def view_step(state: OpenPromptScheduler) -> StepView:
    """Collect what `decide` needs."""
    scheduler = state.scheduler
    return StepView(
        chunked=_chunked(scheduler.chunked_req),
        ordinary_waiting=not all(is_segment(req) for req in scheduler.waiting_queue),
        segment_waiting=state.parked_segment is not None or any(is_segment(req) for req in scheduler.waiting_queue),
        pass_in_flight=scheduler.enable_overlap and scheduler.last_batch is not None,
        hold_steps_in_a_row=state.hold_steps_in_a_row,
        handshakes=state.pending_handshakes,
    )


def _chunked(req: Request | None) -> Chunked:
    if req is None:
        return Chunked.NOTHING
    if not is_segment(req):
        return Chunked.ORDINARY
    return Chunked.UNPARKABLE_SEGMENT if req.pending_bootstrap else Chunked.SEGMENT


def _with_room(
    state: OpenPromptScheduler, running_batch: Batch, schedule: Callable[[Batch], NextBatchPlan]
) -> NextBatchPlan:
    """Plan; where KV is what the first request lacks, release the oldest pins until it has room."""
    plan = schedule(running_batch)
    for _ in range(MAX_RELEASES):
        if plan.batch_to_run is not None or not _lacks_tokens(state.scheduler, plan.running_batch):
            break
        if not state.prompts.pins.release_oldest():
            break
        plan.running_batch.batch_is_full = False
        plan = schedule(plan.running_batch)
    return plan


def _lacks_tokens(scheduler: Scheduler, running_batch: Batch) -> bool:
    """Whether SGLang, which started nothing, found no room in the KV pool: it says so as of a batch that is full.

    It says the same of a server with as many requests as it may have.
    """
    has_place = scheduler.get_num_allocatable_reqs(len(running_batch.reqs)) > 0
    return running_batch.batch_is_full and has_place and scheduler.req_to_token_pool.available_size() > 0


def _schedule_ordinary(original: GetNewBatch, scheduler: Scheduler, running_batch: Batch) -> NextBatchPlan:
    """Let SGLang schedule as if no segments waited."""
    segments = [req for req in scheduler.waiting_queue if is_segment(req)]
    scheduler.waiting_queue = [req for req in scheduler.waiting_queue if not is_segment(req)]
    plan = original(scheduler, running_batch)
    scheduler.waiting_queue = scheduler.waiting_queue + segments
    return plan


def reserve_for_parked(result: None, adder: PrefillAdder, *args: Any, **kwargs: Any) -> None:
    """AFTER `PrefillAdder.__init__`: keep room for the rest of the parked segment.

    SGLang admits a request when all of it has room, and then relies on that: a chunk without room ends the server.
    """
    state = scheduler_state.in_use()
    if state is not None:
        adder.rem_total_token_offset += state.tokens_to_finish_parked()


def _schedule_ordinary_first(original: GetNewBatch, state: OpenPromptScheduler, running_batch: Batch) -> NextBatchPlan:
    """Let SGLang schedule as if no segments waited, and release pins where that is what ordinary requests need."""
    state.count_yielded()
    if any(operation_of(req) is None for req in state.scheduler.waiting_queue):
        state.segment_batches_since_ordinary = 0
    return _with_room(state, running_batch, partial(_schedule_ordinary, original, state.scheduler))


def _schedule_parked(original: GetNewBatch, state: OpenPromptScheduler, running_batch: Batch) -> NextBatchPlan:
    """Let the parked segment go on: its pages or its place may be just what ordinary requests lack.

    Segments that begin now would take the room that these wait for.
    """

    def schedule(batch: Batch) -> NextBatchPlan:
        state.resume_parked()
        with _small_chunks(state):
            return _schedule_ordinary(original, state.scheduler, batch)

    running_batch.batch_is_full = False
    return _with_room(state, running_batch, schedule)


def _schedule_all(original: GetNewBatch, state: OpenPromptScheduler, running_batch: Batch) -> NextBatchPlan:
    """Let SGLang schedule whatever waits, in chunks of segments' size."""

    def schedule(batch: Batch) -> NextBatchPlan:
        state.resume_parked()
        with _small_chunks(state):
            return original(state.scheduler, batch)

    state.hold_steps_in_a_row = 0
    plan = _with_room(state, running_batch, schedule)
    if plan.batch_to_run is not None:
        state.segment_batches_since_ordinary += 1
    return plan


@contextmanager
def _small_chunks(state: OpenPromptScheduler) -> Iterator[None]:
    """Limit the chunk size to what an ordinary request that comes now may have to wait for, in whole pages."""
    scheduler = state.scheduler
    usual, page = scheduler.chunked_prefill_size, scheduler.page_size
    if usual is not None and usual > 0:
        scheduler.chunked_prefill_size = min(usual, -(-state.segment_chunk_tokens // page) * page)
    try:
        yield
    finally:
        scheduler.chunked_prefill_size = usual


def _no_batch(running_batch: Batch) -> NextBatchPlan:
    from sglang.srt.managers import schedule_batch

    plan: NextBatchPlan = schedule_batch.NextBatchPlan(batch_to_run=None, running_batch=running_batch)
    return plan


def count_parked(result: bool, scheduler: Scheduler, *args: Any, **kwargs: Any) -> bool:
    """AFTER `Scheduler.is_fully_idle`: a parked segment, between two chunks, counts as one that is not parked.

    Otherwise SGLang would flush the cache and the pools between two chunks, and the next chunk would end the server.
    """
    state = scheduler_state.current()
    return result and (state is None or state.parked_segment is None)


def pin_transferred(result: list[Request], scheduler: Scheduler, *args: Any, **kwargs: Any) -> None:
    """AFTER `process_disagg_prefill_inflight_queue`, which returns the requests whose transfer has ended."""
    state = scheduler_state.in_use()
    if state is None:
        return
    for req in result:
        operation = operation_of(req)
        if operation is not None and operation.op == "final":
            state.prompts.close(operation.id)
        elif operation is not None and not _has_failed(req):
            state.prompts.pin_segment(operation, req)


def _has_failed(req: Request) -> bool:
    from sglang.srt.managers.schedule_batch import FINISH_ABORT

    return isinstance(req.finished_reason, FINISH_ABORT)
