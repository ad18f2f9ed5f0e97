"""A prefill server's scheduler without model and network: SGLang's own planning, radix cache, allocators and pools.

What it cannot show: the forward pass, transfers (a request's KV counts as sent some steps after its last chunk), the
overlap of planning and computing, several ranks.
"""

import os
from array import array
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from hypothesis import HealthCheck, settings

from launch.models.packaged import prepare
from sglang_ext.open_prompt.expiry import release_aborted
from sglang_ext.open_prompt.operation import CUSTOM_PARAM, Operation, operation_of
from sglang_ext.open_prompt.pins import PinnedPrefixes
from sglang_ext.open_prompt.prefill import (
    count_parked,
    pin_transferred,
    reserve_for_parked,
    schedule_segments_last,
)
from sglang_ext.open_prompt.scheduler_state import OpenPromptScheduler
from sglang_ext.open_prompt.settings import Settings
from sglang_ext.open_prompt.table import OpenPromptTable
from sglang_ext.process_state import process_state

SECONDS = float(os.environ.get("SEARCH_SECONDS", "0"))  # a short look, always the same, without it
SEARCH = settings(
    deadline=None,
    max_examples=int(10 * SECONDS) or 40,  # some 0.1 s each
    stateful_step_count=40,
    derandomize=not SECONDS,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
ORDINARY_CHUNK = 24  # tokens
SEGMENT_CHUNK = 8


def kv_pool(tokens: int, page_size: int, places: int) -> tuple[Any, Any, Any]:
    """SGLang's pool of requests, allocator and radix cache, for `tokens` tokens of KV that nobody computes."""
    from sglang.srt.mem_cache.allocator import TokenToKVPoolAllocator
    from sglang.srt.mem_cache.cache_init_params import CacheInitParams
    from sglang.srt.mem_cache.memory_pool import ReqToTokenPool
    from sglang.srt.mem_cache.radix_cache import RadixCache

    from sglang_ext.cpu.allocator import TorchPagedAllocator

    common: dict[str, Any] = {"dtype": torch.float32, "device": "cpu", "kvcache": None, "need_sort": True}
    allocator: Any = (
        TokenToKVPoolAllocator(tokens, **common)
        if page_size == 1
        else TorchPagedAllocator(tokens, page_size=page_size, **common)
    )
    requests = ReqToTokenPool(places, tokens, "cpu", False)
    parts = CacheInitParams(
        disable=False, req_to_token_pool=requests, token_to_kv_pool_allocator=allocator, page_size=page_size
    )
    return requests, allocator, RadixCache(parts)


def new_request(rid: str, ids: "array[int]", max_new_tokens: int, operation: Operation | None = None) -> Any:
    """A request as a scheduler has it."""
    from sglang.srt.managers.schedule_batch import Req
    from sglang.srt.sampling.sampling_params import SamplingParams

    custom = None if operation is None else {CUSTOM_PARAM: operation}
    sampling = SamplingParams(max_new_tokens=max_new_tokens, custom_params=custom)
    sampling.normalize(None)
    return Req(rid, "", ids, sampling, vocab_size=1000)


@cache
def server_args(mode: str, places: int) -> Any:
    """The command line of a CPU server, as SGLang reads it."""
    from sglang.srt.server_args import ServerArgs

    return ServerArgs(
        model_path=str(prepare("smollm2")),
        device="cpu",
        attention_backend="torch_native",
        sampling_backend="pytorch",
        disaggregation_mode=mode,
        disaggregation_decode_enable_radix_cache=mode == "decode",
        disaggregation_transfer_backend="nixl",
        pp_max_micro_batch_size=places,
    )


@contextmanager
def published(arguments: Any) -> Iterator[None]:
    """Let SGLang's modules see a command line, as long as the block lasts."""
    from sglang.srt.runtime_context import get_context

    with get_context().preserve_config():
        get_context().set_server_args(arguments)
        yield


class PrefillServer:
    """One prefill scheduler; `step` is one round of its event loop.

    Args:
        tokens: KV pool.
        page_size: Tokens of a page.
        places: Requests at once.
        kv_fraction: Of the pool, for pins.
        transfer_steps: Steps after its last chunk in which a request's KV has arrived.
        overlap: Whether a step is planned while the last one's pass is on the GPU.

    Attributes:
        finished: Ids of requests whose KV was sent.
    """

    def __init__(
        self,
        tokens: int,
        page_size: int,
        places: int = 16,
        kv_fraction: float = 0.5,
        transfer_steps: int = 2,
        *,
        overlap: bool = False,
    ) -> None:
        from sglang.srt.managers.schedule_batch import ScheduleBatch
        from sglang.srt.managers.schedule_policy import SchedulePolicy
        from sglang.srt.managers.scheduler import Scheduler

        self.requests, self.allocator, self.cache = kv_pool(tokens, page_size, places)
        self.size, self.places, self.transfer_steps = tokens, places, transfer_steps
        self.finished: list[str] = []
        self._on_the_way: deque[tuple[int, Any]] = deque()  # step in which the KV has arrived
        self._now = 0
        scheduler: Any = object.__new__(Scheduler)
        vars(scheduler).update(
            waiting_queue=[],
            chunked_req=None,
            running_batch=ScheduleBatch(reqs=[]),
            last_batch=None,
            tree_cache=self.cache,
            token_to_kv_pool_allocator=self.allocator,
            req_to_token_pool=self.requests,
            page_size=page_size,
            chunked_prefill_size=ORDINARY_CHUNK,
            max_prefill_tokens=16384,
            max_total_num_tokens=tokens,
            max_running_requests=places,
            max_req_input_len=tokens,
            policy=SchedulePolicy("fcfs", self.cache, False, False, False),
            disagg_prefill_bootstrap_queue=SimpleNamespace(queue=[]),
            disaggregation_mode=_prefill_mode(),
            new_token_ratio_tracker=SimpleNamespace(current=0.5),
            grammar_manager=SimpleNamespace(
                has_waiting_grammars=lambda: False,
                abort_requests=lambda _: None,
                grammar_queue=[],
                clear=lambda: None,
            ),
            dllm_manager=SimpleNamespace(any_staging_reqs=lambda: False),
            metrics_reporter=SimpleNamespace(reset_metrics=lambda: None, is_stats_logging_rank=False),
            result_queue=deque(),
            draft_worker=None,
            disagg_prefill_inflight_queue=[],
            req_to_metadata_buffer_idx_allocator=None,
            ipc_channels=SimpleNamespace(send_to_tokenizer=SimpleNamespace(send_output=lambda *_: None)),
            _pending_chunked_abort_req=None,
            ps=SimpleNamespace(pp_size=1),
            model_config=SimpleNamespace(vocab_size=1000, is_encoder_decoder=False),
            tp_worker=SimpleNamespace(model_runner=SimpleNamespace(prefill_aware_swa=False)),
            spec_algorithm=SimpleNamespace(is_none=lambda: True),
            load_inquirer=SimpleNamespace(_get_num_pending_tokens=lambda **_: 0),
            prefill_delayer=None,
            min_free_slots_delayer=None,
            dllm_config=None,
            truncation_align_size=None,
            max_prefill_bs=0,
            priority_scheduling_preemption_threshold=0,
        )
        for switch in (
            *("enable_lora", "enable_hierarchical_cache", "enable_hicache_storage", "enable_hisparse"),
            *("enable_priority_preemption", "enable_priority_scheduling", "enable_dynamic_chunking"),
            *("is_hybrid_swa", "is_mixed_chunk"),
        ):
            setattr(scheduler, switch, False)
        scheduler.enable_overlap = overlap
        self.scheduler = scheduler
        pins = PinnedPrefixes(self.cache, int(kv_fraction * tokens))
        table = OpenPromptTable(tokens, pins, Settings(segment_chunk=SEGMENT_CHUNK), lambda: 0.0)
        self.state = OpenPromptScheduler(scheduler, table)
        table.counters.segments = 1  # one has come: the overlay is in use

    @contextmanager
    def patched(self) -> Iterator[None]:
        """SGLang's settings and the overlay's patches, as long as the block lasts."""
        from sglang.srt.managers.schedule_policy import PrefillAdder
        from sglang.srt.managers.scheduler import Scheduler

        original, is_idle = PrefillAdder.__init__, Scheduler.is_fully_idle

        def with_reserve(adder: Any, *args: Any, **kwargs: Any) -> None:
            original(adder, *args, **kwargs)
            reserve_for_parked(None, adder)

        with (
            published(server_args("prefill", self.places)),
            mock.patch.object(PrefillAdder, "__init__", with_reserve),
            mock.patch.object(
                Scheduler, "is_fully_idle", lambda *args, **kwargs: count_parked(is_idle(*args, **kwargs), *args)
            ),
            mock.patch.object(process_state, "_parts", {OpenPromptScheduler: self.state}),
        ):
            yield

    def submit(self, rid: str, ids: "array[int]", max_new_tokens: int, operation: Operation | None = None) -> None:
        """A request whose handshake has ended."""
        req = new_request(rid, ids, max_new_tokens, operation)
        req.disagg_kv_sender, req.time_stats = mock.Mock(), mock.Mock()
        self.scheduler.waiting_queue.append(req)

    def append(self, name: str, ids: "array[int]") -> None:
        """A segment of an open prompt."""
        operation = Operation(name, "append", len(self.known(name)))
        whole = self.state.prompts.extend(operation, ids, f"{name}+{len(ids)}")
        self.submit(f"{name}-{len(whole)}", whole, 0, operation)

    def abort(self, rid: str) -> None:
        """An abort of the requests whose ids begin so."""
        from sglang.srt.managers.io_struct import AbortReq
        from sglang.srt.managers.scheduler import Scheduler

        abort: Any = AbortReq(rid=rid)
        Scheduler.abort_request(self.scheduler, abort)
        release_aborted(None, self.scheduler, abort)

    def known(self, name: str) -> "array[int]":
        prompt = self.state.prompts.open.get(name)
        return array("q") if prompt is None else prompt.ids

    def step(self) -> Any:
        """Plan and end one batch; the batch, or None. KV that has arrived is given to the cache."""
        from sglang.srt.managers.scheduler import Scheduler
        from sglang.srt.mem_cache.common import maybe_cache_unfinished_req, release_kv_cache

        scheduler = self.scheduler
        self._now += 1
        scheduler.process_pending_chunked_abort()
        scheduler.running_batch.batch_is_full = False
        if scheduler.chunked_req is not None:
            maybe_cache_unfinished_req(scheduler.chunked_req, self.cache, chunked=True)
        plan = schedule_segments_last(Scheduler.get_new_batch_prefill, scheduler, scheduler.running_batch)
        scheduler.running_batch, batch = plan.running_batch, plan.batch_to_run
        for req in batch.reqs if batch is not None else ():
            if req is not scheduler.chunked_req:
                maybe_cache_unfinished_req(req, self.cache)
                self._on_the_way.append((self._now + self.transfer_steps, req))
        arrived = []
        while self._on_the_way and self._on_the_way[0][0] <= self._now:
            arrived.append(self._on_the_way.popleft()[1])
        for req in arrived:
            release_kv_cache(req, self.cache)
            self.finished.append(req.rid)
        pin_transferred(arrived, scheduler)
        scheduler.disagg_prefill_inflight_queue = [req for _, req in self._on_the_way]
        scheduler.last_batch = batch
        return batch

    def flush(self) -> bool:
        """Empty the cache, as SGLang does when it is asked to and idle; whether it was."""
        from sglang.srt.managers.scheduler import Scheduler

        flushed: bool = Scheduler.flush_cache(self.scheduler, empty_cache=False)
        return flushed

    @property
    def idle(self) -> bool:
        """Whether nothing waits, runs or is on its way."""
        scheduler = self.scheduler
        return not (scheduler.waiting_queue or scheduler.chunked_req or self.state.parked_segment or self._on_the_way)

    def held_tokens(self) -> int:
        """KV that is neither free nor evictable."""
        return self.size - int(self.allocator.available_size()) - int(self.cache.evictable_size())


def ordinary_requests(server: PrefillServer) -> list[str]:
    """Ids of ordinary requests that wait or are between two chunks."""
    waiting = [*server.scheduler.waiting_queue, server.scheduler.chunked_req]
    return [req.rid for req in waiting if req is not None and operation_of(req) is None]


def _prefill_mode() -> Any:
    from sglang.srt.disaggregation.utils import DisaggregationMode

    return DisaggregationMode.PREFILL
