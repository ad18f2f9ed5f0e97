"""A prefill scheduler without a model, with open prompts over SGLang's real radix cache."""

from array import array
from types import SimpleNamespace
from typing import Any

from sglang_ext.open_prompt.operation import CUSTOM_PARAM, Operation
from sglang_ext.open_prompt.pins import PinnedPrefixes
from sglang_ext.open_prompt.prefill import schedule_segments_last
from sglang_ext.open_prompt.scheduler_state import OpenPromptScheduler
from sglang_ext.open_prompt.settings import Settings
from sglang_ext.open_prompt.table import OpenPromptTable

USUAL_CHUNK = 8192


class FakeRequest:
    """A request of the scheduler; like SGLang's, it can be a weak key."""

    def __init__(self, operation: Operation | None, *, pending_bootstrap: bool = False) -> None:
        self.sampling_params = SimpleNamespace(custom_params={CUSTOM_PARAM: operation})
        self.pending_bootstrap = pending_bootstrap
        self.rid = "request"


def segment(**settings: bool) -> Any:
    return FakeRequest(Operation("prompt-1", "append"), **settings)


def final() -> Any:
    return FakeRequest(Operation("prompt-1", "final", 8))


def ordinary() -> Any:
    return FakeRequest(None)


class FakeScheduler:
    """What the overlay sees of a prefill scheduler. `plan` is SGLang's `get_new_batch_prefill` with the overlay."""

    def __init__(self) -> None:
        self.waiting_queue: list[Any] = []
        self.chunked_req: Any = None
        self.enable_overlap = False
        self.last_batch: Any = None
        self.ps = SimpleNamespace(pp_size=1)
        self.disagg_prefill_bootstrap_queue = SimpleNamespace(queue=[])
        self.chunked_prefill_size = USUAL_CHUNK
        self.page_size = 16
        self.room = True
        self.places = 1
        self.req_to_token_pool = SimpleNamespace(available_size=lambda: self.places)
        self.seen: list[tuple[list[Any], Any, int]] = []  # waiting, chunked and chunk size, each time SGLang was asked

    def get_num_allocatable_reqs(self, running_bs: int) -> int:
        return self.places

    def plan(self) -> Any:
        """Plan one step; returns the batch, or None."""

        def original(scheduler: Any, running_batch: Any) -> Any:
            self.seen.append((list(self.waiting_queue), self.chunked_req, self.chunked_prefill_size))
            wants = self.waiting_queue or self.chunked_req
            batch = object() if wants and self.room else None
            running_batch.batch_is_full = bool(wants) and not self.room
            return SimpleNamespace(batch_to_run=batch, running_batch=running_batch)

        self.seen = []
        scheduler: Any = self
        running: Any = SimpleNamespace(batch_is_full=False, reqs=[])
        batch = schedule_segments_last(original, scheduler, running).batch_to_run
        assert self.chunked_prefill_size == USUAL_CHUNK
        return batch


def open_prompts(scheduler: FakeScheduler, segment_chunk: int = 500) -> OpenPromptScheduler:
    """The overlay's state of a scheduler to which a segment has come."""
    from sglang.srt.mem_cache.radix_cache import RadixCache

    cache: Any = RadixCache.create_simulated(page_size=16)
    prompts = OpenPromptTable(100, PinnedPrefixes(cache, 100), Settings(segment_chunk=segment_chunk), lambda: 0.0)
    prompts.extend(Operation("prompt-1", "append"), array("q", [1]), "request")
    itself: Any = scheduler
    return OpenPromptScheduler(itself, prompts)
