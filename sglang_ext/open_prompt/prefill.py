"""Open prompts in the prefill server's scheduler."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sglang_ext.open_prompt import state
from sglang_ext.open_prompt.prompts import Prompts
from sglang_ext.open_prompt.protocol import is_segment, mark_of

# Steps of an idle scheduler, some 0.1 ms each on a GPU server and 1 ms on a CPU one, that segments leave a handshake,
# and the most that they leave handshakes in a row. One takes 3 to 4 ms, longer only where the decode server has no
# room. Steps and not time, since ranks must agree.
HANDSHAKE = 100


def generate_nothing(result: None, queue: Any, req: Any) -> None:
    """AFTER `PrefillBootstrapQueue._process_req`, which has every request generate one token."""
    if is_segment(req):
        req.sampling_params.max_new_tokens = 0


def ordinary_first(original: Callable[..., Any], scheduler: Any, running_batch: Any) -> Any:
    """AROUND `Scheduler.get_new_batch_prefill`: segments run when nothing else can.

    While an ordinary request waits, or one is being prefilled in chunks, the scheduler sees no
    segments. A segment in the middle of its chunks is set aside with its pages: it stands between two
    chunks, its finished ones cached and sent, and `chunked_req` is all that the scheduler has of it.
    When no ordinary request can be started, there is no room: pins give way, and segments go on, for
    the pages of one set aside may be just what is missing. One that is prefilled before its handshake
    (`--optimistic-prefill-attempts`) is not set aside and not held: upstream takes its pages when it pauses, and
    counts on a pass of it being under way then.

    A forward pass cannot be interrupted, so segments begin one only where no ordinary request is about
    to want it: not behind another pass, which may end with an ordinary request waiting, and not while
    one shakes hands with its decode server.
    """
    prompts = state.prompts()
    if prompts is None or not prompts.used:
        return original(scheduler, running_batch)
    waiting = scheduler.waiting_queue
    segments = [req for req in waiting if is_segment(req)]
    ordinary = [req for req in waiting if not is_segment(req)]
    chunked = scheduler.chunked_req
    if chunked is not None and not is_segment(chunked):
        return _without_segments(original, scheduler, running_batch, ordinary, segments)
    if any(mark_of(req) is None for req in ordinary):
        prompts.calm = 0
    if ordinary:
        if chunked is not None and not chunked.pending_bootstrap:
            prompts.counters.yielded += 1
            _set_aside(scheduler)
        plan = _without_segments(original, scheduler, running_batch, ordinary, segments)
        if plan.batch_to_run is not None:
            return plan
        prompts.pins.take_oldest()
        running_batch = plan.running_batch
        running_batch.batch_is_full = False
    elif _may_hold(scheduler, segments) and _ordinary_may_come(scheduler, prompts):
        prompts.counters.held += 1
        if chunked is not None:
            _set_aside(scheduler)
        return _nothing(running_batch)
    prompts.waited = 0
    if scheduler.chunked_req is None and _aside(scheduler) is not None:
        scheduler.chunked_req, scheduler.open_prompt_aside = scheduler.open_prompt_aside, None
    with _small_chunks(scheduler, prompts):
        plan = original(scheduler, running_batch)
    prompts.calm += plan.batch_to_run is not None and not ordinary
    return plan


def _may_hold(scheduler: Any, segments: list[Any]) -> bool:
    chunked = scheduler.chunked_req
    if chunked is not None:
        return not chunked.pending_bootstrap
    return bool(segments) or _aside(scheduler) is not None


def _ordinary_may_come(scheduler: Any, prompts: Prompts) -> bool:
    """Whether an ordinary request would have to wait for a pass that began now; the same on all ranks."""
    if scheduler.enable_overlap and scheduler.last_batch is not None:
        return True
    # Stages of a pipeline may see different handshakes.
    if scheduler.ps.pp_size > 1 or prompts.waited >= HANDSHAKE:
        return False
    shaking = [req for req in scheduler.disagg_prefill_bootstrap_queue.queue if not is_segment(req)]
    soon = [req for req in shaking if getattr(req, "open_prompt_held", 0) < HANDSHAKE]
    for req in soon:
        req.open_prompt_held = getattr(req, "open_prompt_held", 0) + 1
    prompts.waited += bool(soon)
    return bool(soon)


def _nothing(running_batch: Any) -> Any:
    from sglang.srt.managers.schedule_batch import NextBatchPlan

    return NextBatchPlan(batch_to_run=None, running_batch=running_batch)


def _set_aside(scheduler: Any) -> None:
    scheduler.chunked_req, scheduler.open_prompt_aside = None, scheduler.chunked_req


def _aside(scheduler: Any) -> Any:
    return getattr(scheduler, "open_prompt_aside", None)


def abort_aside(scheduler: Any, recv_req: Any) -> None:
    """Let upstream's abort of a request in chunks see the one set aside too."""
    aside = _aside(scheduler)
    if aside is None or not (recv_req.abort_all or aside.rid.startswith(recv_req.rid)):
        return
    before = scheduler.chunked_req, scheduler._pending_chunked_abort_req
    scheduler.chunked_req = scheduler._pending_chunked_abort_req = aside
    scheduler.process_pending_chunked_abort()
    scheduler.chunked_req, scheduler._pending_chunked_abort_req = before
    scheduler.open_prompt_aside = None


def _without_segments(
    original: Callable[..., Any], scheduler: Any, running_batch: Any, ordinary: list[Any], segments: list[Any]
) -> Any:
    scheduler.waiting_queue = ordinary
    plan = original(scheduler, running_batch)
    scheduler.waiting_queue = scheduler.waiting_queue + segments
    return plan


@contextmanager
def _small_chunks(scheduler: Any, prompts: Prompts) -> Iterator[None]:
    """What an ordinary request that comes now has to wait for."""
    usual = scheduler.chunked_prefill_size
    page = scheduler.page_size
    if usual is not None and usual > 0:
        scheduler.chunked_prefill_size = min(usual, -(-prompts.chunk // page) * page)
    try:
        yield
    finally:
        scheduler.chunked_prefill_size = usual


def pin_ready(result: list[Any], scheduler: Any, *args: Any, **kwargs: Any) -> None:
    """AFTER `process_disagg_prefill_inflight_queue`, which returns the requests whose transfer has ended."""
    prompts = state.prompts()
    if prompts is None or not prompts.used:
        return
    for req in result:
        mark = mark_of(req)
        if mark is not None and mark.op == "final":
            prompts.close(mark.id)
        elif mark is not None and not _failed(req):
            prompts.ready(mark, req)


def _failed(req: Any) -> bool:
    from sglang.srt.managers.schedule_batch import FINISH_ABORT

    return isinstance(req.finished_reason, FINISH_ABORT)
