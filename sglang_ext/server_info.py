"""The overlay's part of `/server_info`, under `internal_states[i]["sglang_ext"]`.

    {"version": "0.1.0", "unverified": [], "started": 1760000000.5,
     "processes": {"scheduler": {"pid": 1, "patches": [...]}, "tokenizer": {...}},
     "gpus": ["f3e33d0e-0ef8-c4be-9376-9b349cfaad55"],
     "kv": {"total": 8192, "free": 8000, "evictable": 192, "protected": 0},
     "requests": {"running": 0, "waiting": 0, "prefill_bootstrap": 0, ...},
     "transfer": {"pages": 0, "runs": 0},
     "open_prompts": {"open": 0, "pinned": 0, "segments": 0, ...},   # or {"missing": "the reason"}
     "tokenizer": "9f86d081884c7d659a2feaa0c55ad015"}                # null without one

`started` is when the scheduler's process began, in Unix seconds: another value means another process. `gpus`
are the UUIDs of the server's GPUs on this host, none on a CPU: servers with a common one share it. KV figures
are tokens; `free + evictable` is what a new request can get. `transfer` counts what was sent. `tokenizer` is
its fingerprint: token ids of servers with the same one mean the same text.
"""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
import torch

from sglang_ext import __version__
from sglang_ext.open_prompt import scheduler_state
from sglang_ext.patching.apply import active_patches, unverified_patches
from sglang_ext.process_state import process_state
from sglang_ext.tokenizer_fingerprint import TokenizerFingerprint
from sglang_ext.transfer.transfer_stats import TransferStats
from sglang_ext.upstream.scheduler import InternalState, Scheduler, TokenizerManager

KEY = "sglang_ext"


def add_scheduler_state(result: InternalState, scheduler: Scheduler, *args: Any, **kwargs: Any) -> InternalState:
    """AFTER `Scheduler.get_internal_state`: add the overlay's part."""
    result.internal_state[KEY] = {
        "version": __version__,
        "unverified": unverified_patches(),
        "started": psutil.Process().create_time(),
        "processes": {"scheduler": _process()},
        "gpus": _gpus(scheduler),
        "kv": _kv(scheduler),
        "requests": _requests(scheduler),
        "transfer": process_state.get(TransferStats).to_json(),
        "open_prompts": _open_prompts(),
    }
    return result


async def add_tokenizer_state(
    original: Callable[..., Awaitable[list[dict[str, Any]]]], manager: TokenizerManager
) -> list[dict[str, Any]]:
    """AROUND the HTTP process's `get_internal_state`: add what that process knows to each scheduler's part."""
    states = await original(manager)
    for state in states:
        if KEY in state:
            state[KEY]["processes"]["tokenizer"] = _process()
            state[KEY]["tokenizer"] = process_state.get(TokenizerFingerprint).value
    return states


def _open_prompts() -> dict[str, Any]:
    state = scheduler_state.current()
    return state.prompts.to_json() if state is not None else {"missing": scheduler_state.unsupported_reason()}


def _process() -> dict[str, Any]:
    return {"pid": os.getpid(), "patches": [patch.target for patch in active_patches()]}


def _gpus(scheduler: Scheduler) -> list[str]:
    if scheduler.server_args.device != "cuda":
        return []
    ranks = scheduler.ps.tp_size * scheduler.ps.pp_size // scheduler.server_args.nnodes
    numbers = (scheduler.ps.gpu_id + rank * scheduler.server_args.gpu_id_step for rank in range(ranks))
    return [str(torch.cuda.get_device_properties(number).uuid) for number in numbers]


def _kv(scheduler: Scheduler) -> dict[str, int]:
    cache = scheduler.tree_cache
    return {
        "total": int(scheduler.max_total_num_tokens),
        "free": int(scheduler.token_to_kv_pool_allocator.available_size()),
        "evictable": int(cache.evictable_size()),
        "protected": int(cache.protected_size()),
    }


def _requests(scheduler: Scheduler) -> dict[str, int]:
    counts = {"running": len(scheduler.running_batch.reqs), "waiting": len(scheduler.waiting_queue)}
    bootstrap, inflight = scheduler.disagg_prefill_bootstrap_queue, scheduler.disagg_prefill_inflight_queue
    if bootstrap is not None and inflight is not None:
        counts["prefill_bootstrap"] = len(bootstrap.queue)
        counts["prefill_inflight"] = len(inflight)
    prealloc, transfer = scheduler.disagg_decode_prealloc_queue, scheduler.disagg_decode_transfer_queue
    if prealloc is not None and transfer is not None:
        counts["decode_prealloc"] = len(prealloc.queue)
        counts["decode_retracted"] = len(prealloc.retracted_queue)
        counts["decode_transfer"] = len(transfer.queue)
    return counts
