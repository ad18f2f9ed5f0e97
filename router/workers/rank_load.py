"""What one data-parallel rank of a server says of its load, as values of smg's gauges."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from router.workers.data_parallel import MAX_RANKS

MAX_VALUE = 2.0**53
ROLES = ("prefill", "decode", "null")

# By metric: its help text, and the fields of `/v1/loads` whose sum it is.
OF_RANK: dict[str, tuple[str, tuple[str, ...]]] = {
    "smg_engine_running_requests": ("Requests that run, as the server says", ("num_running_reqs",)),
    "smg_engine_waiting_requests": ("Requests that wait, as the server says", ("num_waiting_reqs",)),
    "smg_engine_token_usage": ("Share of the KV in use, as the server says", ("token_usage",)),
    "smg_engine_gen_throughput": ("Tokens a second, as the server says", ("gen_throughput",)),
    "smg_engine_cache_hit_rate": ("Share of the prompts found cached, as the server says", ("cache_hit_rate",)),
}
OF_PAIR: dict[str, tuple[str, tuple[str, ...]]] = {
    "smg_engine_pd_kv_transfer_latency_ms": ("Time of a transfer of KV", ("kv_transfer_latency_ms",)),
    "smg_engine_pd_kv_transfer_speed_gb_s": ("Speed of transfers of KV", ("kv_transfer_speed_gb_s",)),
    "smg_engine_pd_prefill_queue_reqs": (
        "Requests that wait for their KV to be sent",
        ("prefill_bootstrap_queue_reqs", "prefill_inflight_queue_reqs"),
    ),
    "smg_engine_pd_decode_queue_reqs": (
        "Requests that wait for their KV to come",
        ("decode_prealloc_queue_reqs", "decode_transfer_queue_reqs"),
    ),
}


@dataclass(frozen=True, slots=True)
class RankLoad:
    """The load of one rank.

    Attributes:
        rank: Its number.
        role: Its role as the server says it; None for a rank without a part for pairs.
        values: By metric; those that it does not say are left out.
    """

    rank: int
    role: str | None
    values: dict[str, float]


def rank_loads(ranks: Iterable[Mapping[str, Any]]) -> tuple[RankLoad, ...]:
    """What the ranks in an answer of `/v1/loads` say; whatever is no number is left out."""
    return tuple(_rank_load(index, rank) for index, rank in enumerate(ranks) if index < MAX_RANKS)


def _rank_load(index: int, told: Mapping[str, Any]) -> RankLoad:
    number, pair = told.get("dp_rank"), told.get("disaggregation")
    role = pair.get("mode") if isinstance(pair, dict) else None
    known_role = role if role in ROLES else None
    values = _values(OF_RANK, told) | (_values(OF_PAIR, pair) if known_role is not None else {})
    return RankLoad(number if type(number) is int and 0 <= number < MAX_RANKS else index, known_role, values)


def _values(metrics: Mapping[str, tuple[str, tuple[str, ...]]], told: Any) -> dict[str, float]:
    values: dict[str, float] = {}
    for metric, (_, names) in metrics.items():
        parts = [told.get(name) for name in names]
        if all(_is_count(part) for part in parts):
            values[metric] = sum(min(float(part), MAX_VALUE) for part in parts)
    return values


def _is_count(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
