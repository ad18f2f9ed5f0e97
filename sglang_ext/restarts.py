"""A decode server that notices the restart of its prefill server.

Upstream takes a prefill server for lost after two heartbeats without an answer, ten seconds. One that is
back sooner looks healthy, while decode goes on with what it knew of the old process: requests then wait
for KV that nobody sends, all of them from then on. Every rank of a prefill server listens on a port of its
own that the system chooses at each start, so a changed port tells a new process.
"""

import logging
from typing import Any

logger = logging.getLogger(__name__)
TIMEOUT = 3.0  # seconds, as upstream's own heartbeat


def notice_restart(result: None, manager: Any, bootstrap_addr: str) -> None:
    """AFTER `CommonKVManager._on_heartbeat_success`: forget a prefill server that is not the one it was.

    What waits for the old process fails at once, and the next request greets the new one.
    """
    with manager.connection_lock:
        # One rank tells for all: they start and end together.
        known = next((k for k in manager.connection_pool.items() if k[0].startswith(f"{bootstrap_addr}_")), None)
        prefill = manager.prefill_info_table.get(bootstrap_addr)
    if known is None or prefill is None:
        return
    key, infos = known
    now = _rank(manager, bootstrap_addr, key, prefill)
    if now is not None and not any(_place(info) == now for info in infos):
        logger.warning("the prefill server behind %s was restarted; what waits for the old one fails.", bootstrap_addr)
        manager._handle_node_failure(bootstrap_addr)


def _rank(manager: Any, bootstrap_addr: str, key: str, prefill: Any) -> tuple[str, int] | None:
    """Where the rank listens now that `key` (address, dp, cp and tp rank) was learned from; None when unknown."""
    dp, cp, _ = key.removeprefix(f"{bootstrap_addr}_").split("_")
    with manager.session_pool_lock:
        session = manager.session_pool[bootstrap_addr]
    query = {
        "prefill_dp_rank": dp,
        "prefill_cp_rank": cp,
        "target_tp_rank": prefill.target_tp_ranks[0],
        "target_pp_rank": prefill.target_pp_ranks[0],
    }
    response = session.get(f"http://{bootstrap_addr}/route", params=query, timeout=TIMEOUT)
    # Other statuses come from a server whose ranks have not all started yet.
    return _place(response.json()) if response.status_code == 200 else None


def _place(info: dict[str, Any]) -> tuple[str, int]:
    return str(info["rank_ip"]), int(info["rank_port"])
