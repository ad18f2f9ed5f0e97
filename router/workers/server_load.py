"""What a server says of its own load, at `/v1/loads` of SGLang or `/get_load` of older versions."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from router.workers.rank_load import RankLoad, rank_loads

MAX_COUNT = 2**53  # more is no count, and would spoil sums with other workers


@dataclass(frozen=True, slots=True)
class ServerLoad:
    """A server's load, summed over its data-parallel ranks.

    Attributes:
        requests: Requests that run, wait, or are sent on to decode, whoever sent them.
        waiting: Those of them that wait.
        waiting_tokens: Tokens that wait for their prefill; None if it does not say.
        token_usage: Share of its KV in use, 0 to 1, the average of the ranks; None if it does not say.
        own_requests: Requests that this router had in flight on it when it was asked.
        asked_at: When it was asked, in seconds of the monotonic clock.
        by_rank: What each rank says, for metrics alone.
    """

    requests: int
    waiting: int
    waiting_tokens: int | None
    token_usage: float | None
    own_requests: int
    asked_at: float
    by_rank: tuple[RankLoad, ...] = field(default=(), compare=False)


def from_loads(answer: Any, own_requests: int, asked_at: float) -> ServerLoad | None:
    """The load in an answer of `/v1/loads`; None if it has none."""
    ranks = _ranks(answer.get("loads") if isinstance(answer, dict) else None)
    running, waiting = _sum(ranks, "num_running_reqs"), _sum(ranks, "num_waiting_reqs")
    if running is None or waiting is None:
        return None
    transfers = [rank.get("disaggregation") for rank in ranks]
    sent_on = _sum([each for each in transfers if isinstance(each, dict)], "prefill_inflight_queue_reqs") or 0
    usages = [_number(rank.get("token_usage"), 1) for rank in ranks]
    known = [usage for usage in usages if usage is not None]
    return ServerLoad(
        requests=running + waiting + sent_on,
        waiting=waiting,
        waiting_tokens=_sum(ranks, "num_waiting_uncached_tokens"),
        token_usage=sum(known) / len(known) if known else None,
        own_requests=own_requests,
        asked_at=asked_at,
        by_rank=rank_loads(ranks),
    )


def from_get_load(answer: Any, own_requests: int, asked_at: float) -> ServerLoad | None:
    """The load in an answer of `/get_load`; None if it has none."""
    ranks = _ranks(answer)
    requests = _sum(ranks, "num_reqs")
    if requests is None:
        return None
    waiting = _sum(ranks, "num_waiting_reqs") or 0
    return ServerLoad(requests, waiting, None, None, own_requests, asked_at)


def only_rank(answer: Any, number: int | None) -> Any:
    """An answer at one of `LOAD_PATHS` with one rank's part of it alone."""
    whole = answer.get("loads") if isinstance(answer, dict) else answer
    part = [rank for rank in _ranks(whole) if rank.get("dp_rank") == number]
    return {"loads": part} if isinstance(answer, dict) else part


def most_running(states: Any) -> int | None:
    """As many requests as a server runs at once, by `internal_states` of its `/server_info`; None if it says nothing.

    The ranks of data parallelism count together.
    """
    return _sum(_ranks(states), "effective_max_running_requests_per_dp") or None


# The paths by which a server may tell its load, the best first.
LOAD_PATHS: dict[str, Callable[[Any, int, float], ServerLoad | None]] = {
    "/v1/loads?include=core,disagg": from_loads,
    "/get_load": from_get_load,
}


def _ranks(value: Any) -> list[dict[str, Any]]:
    return [rank for rank in value if isinstance(rank, dict)] if isinstance(value, list) else []


def _sum(ranks: list[dict[str, Any]], name: str) -> int | None:
    """The sum of a count over all ranks; None if one does not have it, or there is none."""
    counts = [_number(rank.get(name), MAX_COUNT) for rank in ranks]
    known = [int(count) for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _number(value: Any, most: float) -> float | None:
    """A number from 0 to `most`; a greater one counts as that, and anything else as unknown."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return min(value, most)
