"""A decode server notices the restart of its prefill server.

SGLang takes a prefill server for lost after two failed heartbeats, ten seconds. One that restarts faster looks
healthy, but decode keeps the connections of the old process: all later requests wait for KV that nobody
sends. Each rank of a prefill server listens on a port that the system chooses at its start, so a changed
port means a new process.
"""

import logging
from typing import Any

from sglang_ext.upstream.transfer import KVManager, PrefillServer

logger = logging.getLogger(__name__)
TIMEOUT_SECONDS = 3.0  # as SGLang's heartbeat


def detect_prefill_restart(result: None, manager: KVManager, bootstrap_addr: str) -> None:
    """AFTER `_on_heartbeat_success`, of each KV manager: drop a prefill server whose process has changed.

    Requests that wait for the old process fail at once; the next request connects to the new one.
    """
    with manager.connection_lock:
        # Asking for one rank is enough: all start and end together.
        known = next((k for k in manager.connection_pool.items() if k[0].startswith(f"{bootstrap_addr}_")), None)
        prefill = manager.prefill_info_table.get(bootstrap_addr)
    if known is None or prefill is None:
        return
    key, ranks = known
    current = _current_address(manager, bootstrap_addr, key, prefill)
    if current is not None and not any(_address(rank) == current for rank in ranks):
        logger.warning("the prefill server behind %s was restarted; what waits for the old one fails.", bootstrap_addr)
        manager._handle_node_failure(bootstrap_addr)


def _current_address(
    manager: KVManager, bootstrap_addr: str, key: str, prefill: PrefillServer
) -> tuple[str, int] | None:
    """Ask where the rank of a connection pool's key (address, dp, cp and tp rank) listens; None when unknown."""
    dp, cp, _ = key.removeprefix(f"{bootstrap_addr}_").split("_")
    with manager.session_pool_lock:
        session = manager.session_pool[bootstrap_addr]
    query = {
        "prefill_dp_rank": dp,
        "prefill_cp_rank": cp,
        "target_tp_rank": prefill.target_tp_ranks[0],
        "target_pp_rank": prefill.target_pp_ranks[0],
    }
    response = session.get(f"http://{bootstrap_addr}/route", params=query, timeout=TIMEOUT_SECONDS)
    # Another status comes from a server whose ranks have not all started yet.
    return _address(response.json()) if response.status_code == 200 else None


def _address(rank: dict[str, Any]) -> tuple[str, int]:
    return str(rank["rank_ip"]), int(rank["rank_port"])
