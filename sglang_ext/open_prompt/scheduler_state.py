"""The open prompts of this process's scheduler, and what is remembered of their segments between steps.

Hooks find them by `current()`, or by `in_use()` where nothing is to be done before the first segment.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from sglang_ext.open_prompt.operation import is_segment
from sglang_ext.open_prompt.pins import PinnedPrefixes
from sglang_ext.open_prompt.scheduling import MAX_HOLD_STEPS_FOR_ONE
from sglang_ext.open_prompt.settings import Settings, enabled
from sglang_ext.open_prompt.table import OpenPromptTable
from sglang_ext.process_state import process_state
from sglang_ext.upstream.request import AbortRequest, Request
from sglang_ext.upstream.scheduler import Scheduler

logger = logging.getLogger(__name__)

FULL_CHUNK_AFTER = 64  # batches of segments, some 2 s of a GPU's time when they follow each other


@dataclass(eq=False)
class OpenPromptScheduler:
    """Open prompts of one scheduler, and what it remembers of their segments between steps.

    Attributes:
        scheduler: SGLang's.
        prompts: The open prompts.
        parked_segment: A segment between two chunks that is kept from `scheduler.chunked_req`. Its finished chunks
            are cached and sent, and it keeps its pages.
        parked_has_yielded: It has been counted as one that an ordinary request went before.
        hold_steps_in_a_row: Steps in which segments were held for handshakes since they last ran.
        segment_batches_since_ordinary: Batches of segments since a request of no open prompt last waited.
        hold_steps_by_request: Steps in which segments were held for a request's handshake. The keys are weak: an
            entry ends with its request.
        placing: The request for which a decode server looks for room, while it does.
        held_to_budget: Whether that is a segment that may have less KV than is there.
    """

    scheduler: Scheduler
    prompts: OpenPromptTable
    parked_segment: Request | None = None
    parked_has_yielded: bool = False
    hold_steps_in_a_row: int = 0
    segment_batches_since_ordinary: int = FULL_CHUNK_AFTER
    hold_steps_by_request: "WeakKeyDictionary[Request, int]" = field(default_factory=WeakKeyDictionary)
    placing: Request | None = None
    held_to_budget: bool = False

    @property
    def segment_chunk_tokens(self) -> int:
        """Tokens of the next batch of segments: half of the setting until ordinary requests have stayed away.

        Small batches take longer in all. But a request that comes during one waits less, and with fewer others:
        those that wait become one batch, which ends for all of them at once.
        """
        limit = self.prompts.settings.segment_chunk
        return limit if self.segment_batches_since_ordinary >= FULL_CHUNK_AFTER else -(-limit // 2)

    def park(self) -> None:
        """Keep the segment between two chunks from SGLang."""
        self.scheduler.chunked_req, self.parked_segment = None, self.scheduler.chunked_req
        self.parked_has_yielded = False

    def count_yielded(self) -> None:
        """Count the parked segment, if there is one, as one that an ordinary request goes before; once a parking."""
        if self.parked_segment is not None and not self.parked_has_yielded:
            self.parked_has_yielded = True
            self.prompts.counters.yielded += 1

    def resume_parked(self) -> None:
        """Give the parked segment back to SGLang, unless another request is between two chunks."""
        if self.scheduler.chunked_req is None and self.parked_segment is not None:
            self.scheduler.chunked_req, self.parked_segment = self.parked_segment, None

    def tokens_to_finish_parked(self) -> int:
        """Return the KV that the parked segment still needs, in tokens; SGLang counts a page more for each request."""
        if self.parked_segment is None:
            return 0
        page = self.scheduler.page_size
        left = len(self.parked_segment.origin_input_ids) - len(self.parked_segment.prefix_indices)
        return -(-left // page) * page + page

    def abort_parked(self, abort: AbortRequest) -> None:
        """Let SGLang abort the parked segment as one between two chunks, if it is meant."""
        parked, scheduler = self.parked_segment, self.scheduler
        if parked is None or not (abort.abort_all or parked.rid.startswith(abort.rid)):
            return
        before = scheduler.chunked_req, scheduler._pending_chunked_abort_req
        scheduler.chunked_req = scheduler._pending_chunked_abort_req = parked
        scheduler.process_pending_chunked_abort()
        scheduler.chunked_req, scheduler._pending_chunked_abort_req = before
        self.parked_segment = None

    def pending_handshakes(self) -> list[Request]:
        """Return ordinary requests in their handshake for which segments may still be held."""
        bootstrap = self.scheduler.disagg_prefill_bootstrap_queue
        assert bootstrap is not None, "only prefill servers schedule segments"
        return [
            req
            for req in bootstrap.queue
            if not is_segment(req) and self.hold_steps_by_request.get(req, 0) < MAX_HOLD_STEPS_FOR_ONE
        ]

    def count_held(self, handshakes: Sequence[Request]) -> None:
        """Count one step in which segments were held: for these requests, or for a pass if there are none."""
        self.prompts.counters.held += 1
        if not handshakes:
            return
        self.count_yielded()
        for req in handshakes:
            self.hold_steps_by_request[req] = self.hold_steps_by_request.get(req, 0) + 1
        self.hold_steps_in_a_row += 1


@dataclass(frozen=True)
class NoOpenPrompts:
    """A scheduler has no open prompts.

    Attributes:
        reason: Why, to follow 'this server has no open prompts:'.
    """

    reason: str


def current() -> OpenPromptScheduler | None:
    """Return the open prompts of this process's scheduler; None where it has none."""
    return process_state.find(OpenPromptScheduler)


def in_use() -> OpenPromptScheduler | None:
    """Return them if a segment has ever come; before, the overlay leaves scheduling to SGLang."""
    state = current()
    return state if state is not None and state.prompts.any_segment_seen else None


def unsupported_reason() -> str:
    """Return why there are none."""
    return process_state.get(NoOpenPrompts).reason


def open_prompts_of(scheduler: Scheduler) -> OpenPromptScheduler | NoOpenPrompts:
    """Make the open prompts of a scheduler, if it can have any."""
    if not enabled():
        return NoOpenPrompts("they are switched off with SGLANG_EXT_OPEN_PROMPTS=0")
    reason = _unsupported_reason(scheduler)
    if reason is not None:
        if scheduler.server_args.disaggregation_mode != "null":
            logger.warning("this server has no open prompts, so nothing is prefilled speculatively: %s.", reason)
        return NoOpenPrompts(reason)
    settings = Settings.from_environment()
    pins = PinnedPrefixes(scheduler.tree_cache, budget=int(settings.kv_fraction * scheduler.max_total_num_tokens))
    return OpenPromptScheduler(scheduler, OpenPromptTable(scheduler.max_req_input_len, pins, settings, time.monotonic))


def _unsupported_reason(scheduler: Scheduler) -> str | None:
    """Return why a server cannot have open prompts; None when it can."""
    from sglang.srt.mem_cache.radix_cache import RadixCache

    arguments, cache = scheduler.server_args, scheduler.tree_cache
    mode = arguments.disaggregation_mode
    obstacles = {
        "it is neither a prefill nor a decode server": mode == "null",
        f"its cache is {type(cache).__name__}, not an enabled RadixCache": type(cache) is not RadixCache
        or cache.disable,
        "it runs without --disaggregation-decode-enable-radix-cache": mode == "decode"
        and not arguments.disaggregation_decode_enable_radix_cache,
        "it runs with data parallelism": arguments.dp_size > 1,
        "it runs with pipeline parallelism, and stages would see other segments than the first": scheduler.ps.pp_size
        > 1,
        "it runs with speculative decoding": arguments.speculative_algorithm is not None,
        "it runs with deterministic inference, which prefills in chunks of one size": (
            arguments.enable_deterministic_inference
        ),
        "it serves LoRA adapters, which segments do not name": scheduler.enable_lora,
    }
    return next((reason for reason, applies in obstacles.items() if applies), None)
