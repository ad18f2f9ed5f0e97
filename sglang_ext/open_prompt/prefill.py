"""Open prompts in the prefill server's scheduler: carries out what `scheduling.decide` says."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sglang_ext.open_prompt import scheduler_state
from sglang_ext.open_prompt.operation import is_segment, operation_of
from sglang_ext.open_prompt.scheduler_state import OpenPromptScheduler
from sglang_ext.open_prompt.scheduling import Action, Chunked, StepView, decide
from sglang_ext.upstream.request import Request
from sglang_ext.upstream.scheduler import Batch, BootstrapQueue, NextBatchPlan, Scheduler

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
    segments = [req for req in scheduler.waiting_queue if is_segment(req)]
    ordinary = [req for req in scheduler.waiting_queue if not is_segment(req)]
    handshakes = state.pending_handshakes()
    decision = decide(view_step(state, ordinary, segments, handshakes))
    if decision.park:
        state.park()
    match decision.action:
        case Action.CONTINUE_ORDINARY:
            return _schedule_ordinary(original, scheduler, running_batch, ordinary, segments)
        case Action.HOLD_FOR_PASS | Action.HOLD_FOR_HANDSHAKE:
            state.prompts.counters.held += 1
            if decision.action is Action.HOLD_FOR_HANDSHAKE:
                state.count_handshake_hold(handshakes)
            return _no_batch(running_batch)
        case Action.GIVE_WAY:
            state.prompts.counters.yielded += decision.park
            if any(operation_of(req) is None for req in ordinary):
                state.segment_batches_since_ordinary = 0
            plan = _schedule_ordinary(original, scheduler, running_batch, ordinary, segments)
            if plan.batch_to_run is not None:
                return plan
            # No room. Segments go on too: the pages of a parked one may be just what is missing.
            state.prompts.pins.release_oldest()
            running_batch = plan.running_batch
            running_batch.batch_is_full = False
    plan = _schedule_all(original, state, running_batch)
    if plan.batch_to_run is not None and decision.action is Action.RUN:
        state.segment_batches_since_ordinary += 1
    return plan


def view_step(
    state: OpenPromptScheduler, ordinary: list[Request], segments: list[Request], handshakes: list[Request]
) -> StepView:
    """Collect what `decide` needs: waiting requests of either kind, and `state.pending_handshakes()`."""
    scheduler = state.scheduler
    return StepView(
        chunked=_chunked(scheduler.chunked_req),
        ordinary_waiting=bool(ordinary),
        segment_waiting=bool(segments) or state.parked_segment is not None,
        pass_in_flight=scheduler.enable_overlap and scheduler.last_batch is not None,
        handshake_pending=bool(handshakes),
        handshake_hold_steps=state.handshake_hold_steps,
        has_pipeline_stages=scheduler.ps.pp_size > 1,
    )


def _chunked(req: Request | None) -> Chunked:
    if req is None:
        return Chunked.NOTHING
    if not is_segment(req):
        return Chunked.ORDINARY
    return Chunked.UNPARKABLE_SEGMENT if req.pending_bootstrap else Chunked.SEGMENT


def _schedule_ordinary(
    original: GetNewBatch,
    scheduler: Scheduler,
    running_batch: Batch,
    ordinary: list[Request],
    segments: list[Request],
) -> NextBatchPlan:
    """Let SGLang schedule as if no segments waited."""
    scheduler.waiting_queue = ordinary
    plan = original(scheduler, running_batch)
    scheduler.waiting_queue = scheduler.waiting_queue + segments
    return plan


def _schedule_all(original: GetNewBatch, state: OpenPromptScheduler, running_batch: Batch) -> NextBatchPlan:
    """Let SGLang schedule whatever waits, in chunks of segments' size."""
    state.handshake_hold_steps = 0
    state.resume_parked()
    with _small_chunks(state):
        return original(state.scheduler, running_batch)


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
