"""Requests and KV in use on the workers, as this router counts them and as the workers report them.

If `idle` is true for all workers, no request and no KV has leaked. Only servers with the overlay report it.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

import orjson

from router.errors import RouterError
from router.workers.queries import fetch_body
from router.workers.worker import Worker

USAGE_TIMEOUT = 5.0  # seconds


async def worker_usage(workers: Iterable[Worker]) -> list[dict[str, Any]]:
    """Query all workers concurrently and return one entry for each.

    `in_flight` is the number of requests this router counts. `requests` (counts) and `kv` (tokens) are what the
    overlay reports, summed over all ranks, or None without an overlay. `idle` is true if both count no request and all
    KV is free or evictable, None without an overlay. `problem` says why a worker did not answer.
    """
    return await asyncio.gather(*(_usage_of(worker) for worker in workers))


async def _usage_of(worker: Worker) -> dict[str, Any]:
    problem = None
    states: list[dict[str, Any]] = []
    try:
        states = _overlay_states(orjson.loads(await fetch_body(worker, "GET", "/server_info", timeout=USAGE_TIMEOUT)))
    except RouterError as error:
        problem = str(error)
    except orjson.JSONDecodeError:
        problem = f"{worker.url} answered /server_info with something that is not JSON."
    kv, requests = _sum_counts(states, "kv"), _sum_counts(states, "requests")
    return {
        "url": worker.url,
        "role": worker.role,
        "model": worker.model,
        "in_flight": worker.load.requests,
        "requests": requests,
        "kv": kv,
        "idle": _is_idle(worker.load.requests, requests, kv),
        "problem": problem,
    }


def _overlay_states(server_info: Any) -> list[dict[str, Any]]:
    """The overlay's part of each rank's internal state."""
    ranks = server_info.get("internal_states") if isinstance(server_info, dict) else None
    states = [rank.get("sglang_ext") for rank in ranks if isinstance(rank, dict)] if isinstance(ranks, list) else []
    return [state for state in states if isinstance(state, dict)]


def _sum_counts(states: list[dict[str, Any]], key: str) -> dict[str, int] | None:
    total: Counter[str] = Counter()
    for state in states:
        counts = state.get(key)
        if isinstance(counts, dict):
            total.update({name: count for name, count in counts.items() if type(count) is int})
    return dict(total) or None


def _is_idle(in_flight: int, requests: dict[str, int] | None, kv: dict[str, int] | None) -> bool | None:
    if requests is None or kv is None:
        return None
    kv_unused = kv.get("free", 0) + kv.get("evictable", 0) == kv.get("total") and not kv.get("protected")
    return kv_unused and not in_flight and not any(requests.values())
