"""What the workers hold at this moment: requests and KV, by this router's count and by their own word.

An operator who sees `idle` true for all workers knows that nothing has leaked. Only servers with the overlay tell.
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
    """One entry for each worker, all asked at once; who does not answer in time has the `problem` in its entry.

    `in_flight` are requests by this router's count. `requests` (numbers) and `kv` (tokens) are by the overlay's word,
    over all ranks, or None. `idle`: by neither count there is a request, and all KV is free or evictable; None where
    the worker does not tell.
    """
    return await asyncio.gather(*(_of(worker) for worker in workers))


async def _of(worker: Worker) -> dict[str, Any]:
    problem = None
    parts: list[dict[str, Any]] = []
    try:
        parts = _parts(orjson.loads(await fetch_body(worker, "GET", "/server_info", timeout=USAGE_TIMEOUT)))
    except RouterError as error:
        problem = str(error)
    except orjson.JSONDecodeError:
        problem = f"{worker.url} answered /server_info with something that is not JSON."
    kv, requests = _sum(parts, "kv"), _sum(parts, "requests")
    return {
        "url": worker.url,
        "role": worker.role,
        "model": worker.model,
        "in_flight": worker.load,
        "requests": requests,
        "kv": kv,
        "idle": _idle(worker.load, requests, kv),
        "problem": problem,
    }


def _parts(told: Any) -> list[dict[str, Any]]:
    """The overlay's part of each rank's state."""
    states = told.get("internal_states") if isinstance(told, dict) else None
    ranks = states if isinstance(states, list) else []
    found = [rank.get("sglang_ext") for rank in ranks if isinstance(rank, dict)]
    return [part for part in found if isinstance(part, dict)]


def _sum(parts: list[dict[str, Any]], key: str) -> dict[str, int] | None:
    total: Counter[str] = Counter()
    for part in parts:
        counts = part.get(key)
        if isinstance(counts, dict):
            total.update({name: count for name, count in counts.items() if type(count) is int})
    return dict(total) or None


def _idle(in_flight: int, requests: dict[str, int] | None, kv: dict[str, int] | None) -> bool | None:
    if requests is None or kv is None:
        return None
    free = kv.get("free", 0) + kv.get("evictable", 0) == kv.get("total") and not kv.get("protected")
    return free and not in_flight and not any(requests.values())
