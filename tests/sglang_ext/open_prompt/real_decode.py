"""A decode server's queues without model and network: SGLang's own room for requests, retraction, cache and pools.

What it cannot show: the forward pass, handshakes and transfers (KV has arrived when the test says so), overlap, several
ranks.
"""

from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from sglang_ext.open_prompt import decode_room
from sglang_ext.open_prompt.decode import finish_segments
from sglang_ext.open_prompt.operation import Operation, is_segment
from sglang_ext.open_prompt.pins import PinnedPrefixes
from sglang_ext.open_prompt.scheduler_state import OpenPromptScheduler
from sglang_ext.open_prompt.settings import Settings
from sglang_ext.open_prompt.table import OpenPromptTable
from sglang_ext.process_state import process_state
from tests.sglang_ext.open_prompt.real_scheduler import kv_pool, new_request, published, server_args

RESERVED = 4  # tokens that SGLang keeps for each request's answer


class DecodeServer:
    """One decode scheduler; `step` is one round of its event loop.

    Args:
        tokens: KV pool.
        page_size: Tokens of a page.
        places: Requests at once.
        budget: Tokens for open prompts.

    Attributes:
        finished: Ids of requests with their whole answer, and of segments.
        retracted: Ids of requests that were retracted, in order.
        aborted: Ids of requests that SGLang gave up for want of KV.
    """

    def __init__(self, tokens: int, page_size: int = 1, places: int = 16, budget: int = 50) -> None:
        from sglang.srt.disaggregation.decode import DecodePreallocQueue
        from sglang.srt.disaggregation.utils import ReqToMetadataIdxAllocator, TransferBackend
        from sglang.srt.managers.schedule_batch import ScheduleBatch

        self.requests, self.allocator, self.cache = kv_pool(tokens, page_size, places)
        self.allocator._kvcache = SimpleNamespace(
            get_cpu_copy=lambda *_, **__: None, load_cpu_copy=lambda *_, **__: None
        )
        self.size = tokens
        self.finished: list[str] = []
        self.retracted: list[str] = []
        self.aborted: list[str] = []
        self.arguments = server_args("decode", places)
        self.running = ScheduleBatch(
            reqs=[],
            req_to_token_pool=self.requests,
            token_to_kv_pool_allocator=self.allocator,
            tree_cache=self.cache,
            spec_algorithm=SimpleNamespace(is_none=lambda: True),
        )
        self.scheduler: Any = SimpleNamespace(
            running_batch=self.running,
            waiting_queue=[],
            last_batch=None,
            enable_priority_scheduling=False,
            enable_hisparse=False,
            enable_decode_hicache=False,
            server_args=self.arguments,
            max_total_num_tokens=tokens,
            ipc_channels=SimpleNamespace(send_to_tokenizer=SimpleNamespace(send_output=lambda *_: None)),
        )
        buffers = ReqToMetadataIdxAllocator(2 * places)
        self._arrived: set[str] = set()  # ids of requests whose KV has arrived
        self.transfers: Any = SimpleNamespace(
            queue=[], tree_cache=self.cache, enable_staging=False, pop_transferred=self._pop_transferred
        )
        queue: Any = object.__new__(DecodePreallocQueue)
        vars(queue).update(
            queue=[],
            pending_reqs=[],
            retracted_queue=[],
            pp_size=1,
            tree_cache=self.cache,
            scheduler=self.scheduler,
            transfer_queue=self.transfers,
            transfer_backend=TransferBackend.NIXL,
            token_to_kv_pool=None,
            token_to_kv_pool_allocator=self.allocator,
            req_to_token_pool=self.requests,
            req_to_metadata_buffer_idx_allocator=buffers,
            num_reserved_decode_tokens=RESERVED,
            max_total_num_tokens=tokens,
            kv_manager=SimpleNamespace(kv_args=SimpleNamespace(state_types=[])),
        )
        self.queue = queue
        table = OpenPromptTable(tokens, PinnedPrefixes(self.cache, budget), Settings(), lambda: 0.0)
        table.counters.segments = 1  # one has come: the overlay is in use
        self.state = OpenPromptScheduler(self.scheduler, table)

    @contextmanager
    def patched(self) -> Iterator[None]:
        """The overlay's patches, as long as the block lasts."""
        from sglang.srt.disaggregation.decode import DecodePreallocQueue
        from sglang.srt.managers.schedule_batch import ScheduleBatch

        with (
            published(self.arguments),
            mock.patch.object(process_state, "_parts", {OpenPromptScheduler: self.state}),
            mock.patch("sglang_ext.open_prompt.replies.send_finish"),
            _around(DecodePreallocQueue, "pop_preallocated", decode_room.preallocate_segments_last),
            _around(DecodePreallocQueue, "resume_retracted_reqs", decode_room.release_for_retracted),
            _around(ScheduleBatch, "check_decode_mem", decode_room.release_before_retraction),
            _after(DecodePreallocQueue, "_match_prefix_and_lock", decode_room.note_request),
            _after(DecodePreallocQueue, "_allocatable_token_budgets", decode_room.limit_room),
            _after(DecodePreallocQueue, "_active_req_count", decode_room.discount_segments),
        ):
            yield

    def submit(self, rid: str, ids: "array[int]", max_new_tokens: int, operation: Operation | None = None) -> None:
        """A request whose handshake has ended."""
        from sglang.srt.disaggregation.decode import DecodeRequest

        req = new_request(rid, ids, max_new_tokens, operation)
        req.bootstrap_room, req.bootstrap_host = 1, "prefill"
        req.time_stats = mock.Mock()
        receiver = SimpleNamespace(send_metadata=lambda *_, **__: None, conclude_state=None)
        self.queue.queue.append(DecodeRequest(req, receiver, waiting_for_input=True))

    def append(self, name: str, ids: "array[int]") -> str:
        """A segment of an open prompt; returns the request's id."""
        prompt = self.state.prompts.open.get(name)
        operation = Operation(name, "append", 0 if prompt is None else len(prompt.ids))
        whole = self.state.prompts.extend(operation, ids, name)
        self.submit(rid := f"{name}-{len(whole)}", whole, 0, operation)
        return rid

    def place(self) -> None:
        """Resume retracted requests, then give room to those that wait."""
        self.scheduler.waiting_queue += self.queue.resume_retracted_reqs()
        if not self.queue.retracted_queue:
            placed, failed = self.queue.pop_preallocated()
            assert not failed
            self.transfers.queue += placed

    def arrive(self, *rids: str) -> None:
        """The KV of these requests, or of all, has arrived. SGLang looks for it when no retracted request waits."""
        self._arrived |= set(rids) or {each.req.rid for each in self.transfers.queue}
        self.look()

    def arrive_ordinary(self) -> None:
        """The KV of all ordinary requests has arrived, while that of segments waits for the prefill server."""
        self._arrived |= {each.req.rid for each in self.transfers.queue if not is_segment(each.req)}
        self.look()

    def look(self) -> None:
        """Look for KV that has arrived."""
        if not self.queue.retracted_queue:
            self.scheduler.waiting_queue += self.transfers.pop_transferred()

    def fail(self, rid: str) -> None:
        """Handshakes and transfers of requests whose ids begin so have failed, or were aborted."""
        from sglang.srt.mem_cache.common import release_kv_cache

        self.queue.queue = [each for each in self.queue.queue if not each.req.rid.startswith(rid)]
        failed = [each for each in self.transfers.queue if each.req.rid.startswith(rid)]
        self.transfers.queue = [each for each in self.transfers.queue if each not in failed]
        for each in failed:
            release_kv_cache(each.req, self.cache, is_insert=False)
            self.queue.req_to_metadata_buffer_idx_allocator.free(each.metadata_buffer_index)

    def _pop_transferred(self, rids_to_check: list[str] | None = None) -> list[Any]:
        rids = self._arrived if rids_to_check is None else self._arrived & set(rids_to_check)
        arrived = [each for each in self.transfers.queue if each.req.rid in rids]
        self.transfers.queue = [each for each in self.transfers.queue if each not in arrived]
        for each in arrived:
            each.req.output_ids.append(7)
            self.queue.req_to_metadata_buffer_idx_allocator.free(each.metadata_buffer_index)
        self.finished += [each.req.rid for each in arrived if is_segment(each.req)]
        return finish_segments([each.req for each in arrived], self.transfers)

    def decode(self) -> None:
        """Start what waits, and compute a token of each running request, after retracting some for want of KV."""
        from sglang.srt.mem_cache.common import maybe_cache_unfinished_req, release_kv_cache

        for req in self.scheduler.waiting_queue:
            if not req.retracted_stain:
                maybe_cache_unfinished_req(req, self.cache)
            self.running.reqs.append(req)
        self.scheduler.waiting_queue = []
        self._end_finished(release_kv_cache)
        if self.running.reqs and not self.running.check_decode_mem():
            retracted, _, aborted = self._retract()
            self.retracted += [req.rid for req in retracted]
            self.aborted += [req.rid for req in aborted]
            self.queue.extend(retracted, is_retracted=True)
        for req in self.running.reqs:
            at = req.kv_committed_len
            self.requests.write((req.req_pool_idx, at), self._slot(req, at))
            req.kv_committed_len = req.kv.kv_allocated_len = at + 1
            req.output_ids.append(7)
        self._end_finished(release_kv_cache)

    def _end_finished(self, release: Any) -> None:
        for req in [r for r in self.running.reqs if len(r.output_ids) >= r.sampling_params.max_new_tokens]:
            self.running.reqs.remove(req)
            release(req, self.cache)
            self.finished.append(req.rid)

    def _slot(self, req: Any, at: int) -> torch.Tensor:
        if self.allocator.page_size == 1:
            slots = self.allocator.alloc(1)
        else:
            last = self.requests.req_to_token[req.req_pool_idx, at - 1].reshape(1)
            lengths = torch.tensor([at + 1])
            slots = self.allocator.alloc_decode(lengths, lengths, last)
        assert slots is not None, "the KV pool is full"
        return slots.to(torch.int32)

    def _retract(self) -> Any:
        """SGLang's retraction; the batch has no tensors to filter, as no pass is computed."""

        def keep(keep_indices: list[int]) -> None:
            self.running.reqs = [self.running.reqs[i] for i in keep_indices]

        with mock.patch.object(self.running, "filter_batch", keep):
            return self.running.retract_decode(self.arguments)

    @property
    def idle(self) -> bool:
        """Whether nothing waits, runs or is on its way."""
        waits = [self.queue.queue, self.queue.retracted_queue, self.transfers.queue, self.scheduler.waiting_queue]
        return not any([*waits, self.running.reqs])

    def held_tokens(self) -> int:
        """KV that is neither free nor evictable."""
        return self.size - int(self.allocator.available_size()) - int(self.cache.evictable_size())

    def segments_on_the_way(self) -> int:
        """KV allocated for segments that has not arrived, in tokens."""
        return sum(each.req.extend_range.length for each in self.transfers.queue if is_segment(each.req))


def _around(owner: type, name: str, hook: Any) -> Any:
    original = getattr(owner, name)
    return mock.patch.object(owner, name, lambda *args, **kwargs: hook(original, *args, **kwargs))


def _after(owner: type, name: str, hook: Any) -> Any:
    original = getattr(owner, name)

    def patched(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        changed = hook(result, *args, **kwargs)
        return result if changed is None else changed

    return mock.patch.object(owner, name, patched)
