"""SGLang's KV transfer between prefill and decode servers."""

from contextlib import AbstractContextManager
from typing import Any, Protocol


class KVArgs(Protocol):
    """`sglang.srt.disaggregation.base.conn.KVArgs`: the buffers of one KV pool.

    `kv_data_mem_kinds` is not declared there; `NixlKVManager` reads it where it is set.
    """

    kv_data_ptrs: list[int]  # one a buffer
    kv_data_mem_kinds: list[str]  # "VRAM" or "DRAM", one a buffer


class HttpSession(Protocol):
    """`requests.Session`."""

    def get(self, url: str, *, params: dict[str, Any], timeout: float) -> Any:
        """Send a GET request."""


class PrefillServer(Protocol):
    """`sglang.srt.disaggregation.common.conn.PrefillServerInfo`: what decode knows of a prefill server."""

    target_tp_ranks: list[int]
    target_pp_ranks: list[int]


class KVManager(Protocol):
    """`sglang.srt.disaggregation.common.conn.CommonKVManager`: a server's connections for KV transfer."""

    connection_lock: AbstractContextManager[Any]
    connection_pool: dict[str, list[dict[str, Any]]]  # "address_dp_cp_tp" -> where its ranks listen
    prefill_info_table: dict[str, PrefillServer]  # by bootstrap address
    session_pool: dict[str, HttpSession]  # by bootstrap address
    session_pool_lock: AbstractContextManager[Any]

    def _handle_node_failure(self, failed_bootstrap_addr: str) -> None:
        """Fail what waits for a prefill server, and forget it."""
