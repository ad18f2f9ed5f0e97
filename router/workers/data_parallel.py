"""The data-parallel ranks of a server, among which the load-balancing policies choose with `--dp-aware`.

SGLang's `--dp-size N` runs N copies of the model behind one address. By itself the server spreads requests over them,
so that a prompt's beginning is seldom cached where the next one with it goes. A field of the request may name the rank.
"""

from dataclasses import dataclass
from typing import Any

from router.config.flags import flag

MAX_RANKS = 64  # of one server
OWN_RANK, PREFILL_RANK = "routed_dp_rank", "disagg_prefill_dp_rank"  # SGLang's fields
RANK_FIELDS = (OWN_RANK, "data_parallel_rank", PREFILL_RANK)  # with the older name of the first


@dataclass(frozen=True)
class DataParallelSettings:
    """Who chooses the data-parallel rank of a request."""

    dp_aware: bool = flag(
        "--dp-aware",
        default=False,
        help_text="the policies choose among the data-parallel ranks of servers, instead of the servers themselves",
    )


def rank_count(server_info: dict[str, Any]) -> int:
    """The number of a server's ranks, by its `/server_info`; 1 where it does not say, or too many to be taken."""
    count = server_info.get("dp_size")
    return count if type(count) is int and 1 < count <= MAX_RANKS else 1
