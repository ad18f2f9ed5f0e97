"""SGLang's KV transfer between prefill and decode servers."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import zmq


class KVArgs(Protocol):
    """`sglang.srt.disaggregation.base.conn.KVArgs`: the buffers of one KV pool.

    `kv_data_mem_kinds` is not declared there; `NixlKVManager` reads it where it is set.
    """

    kv_data_ptrs: list[int]  # one a buffer
    kv_data_mem_kinds: list[str]  # "VRAM" or "DRAM", one a buffer


class HttpResponse(Protocol):
    """`requests.Response`."""

    status_code: int

    def json(self) -> dict[str, Any]:
        """Return the body, a JSON object."""


class HttpSession(Protocol):
    """`requests.Session`."""

    def get(self, url: str, *, params: dict[str, Any], timeout: float) -> HttpResponse:
        """Send a GET request."""


class PrefillServer(Protocol):
    """`sglang.srt.disaggregation.common.conn.PrefillServerInfo`: what decode knows of a prefill server."""

    target_tp_ranks: list[int]
    target_pp_ranks: list[int]


class TransferChunk(Protocol):
    """`sglang.srt.disaggregation.common.utils.TransferKVChunk`: KV that a prefill server sends at once."""

    room: int


class ChunkQueue(Protocol):
    """`sglang.srt.disaggregation.common.utils.FastQueue`: what one transfer thread of a prefill server sends."""

    def get(self) -> TransferChunk:
        """Wait for the next chunk and take it."""

    def put(self, item: TransferChunk) -> None:
        """Add a chunk."""


class KVManager(Protocol):
    """`sglang.srt.disaggregation.common.conn.CommonKVManager`: a server's connections for KV transfer."""

    local_ip: str
    rank_port: int  # where it receives the other servers' messages
    _zmq_ctx: "zmq.Context[zmq.Socket[bytes]]"
    connection_lock: AbstractContextManager[object]
    connection_pool: dict[str, list[dict[str, Any]]]  # "address_dp_cp_tp" -> where its ranks listen
    prefill_info_table: dict[str, PrefillServer]  # by bootstrap address
    session_pool: dict[str, HttpSession]  # by bootstrap address
    session_pool_lock: AbstractContextManager[object]

    def update_status(self, bootstrap_room: int, status: int) -> None:
        """Set a request's `KVPoll`."""

    def _handle_node_failure(self, failed_bootstrap_addr: str) -> None:
        """Fail what waits for a prefill server, and forget it."""


class TransferInfo(Protocol):
    """`sglang.srt.disaggregation.nixl.conn.TransferInfo`: where one rank of a decode server wants a request's KV."""

    endpoint: str  # its host
    dst_port: int  # where it receives messages, its KV manager's `rank_port`


class NixlKVManager(KVManager, Protocol):
    """`sglang.srt.disaggregation.nixl.conn.NixlKVManager`."""

    transfer_infos: dict[int, dict[str, TransferInfo]]  # of a prefill server, by room and NIXL agent

    def update_transfer_status(self) -> None:
        """Read what has arrived; without a progress thread, nothing arrives but in here."""


class KVReceiver(Protocol):
    """`sglang.srt.disaggregation.nixl.conn.NixlKVReceiver`: one request's transfer, on the decode server."""

    kv_mgr: NixlKVManager
    bootstrap_addr: str
    bootstrap_room: int
    bootstrap_infos: list[dict[str, Any]] | None  # where the ranks listen that send its KV
    prefill_info: PrefillServer
    conclude_state: int | None  # a `KVPoll`
    started_transfer: bool  # all ranks of the prefill server were told where the KV goes
    chunk_staging_infos: list[object]  # there is none before the first of them is told

    def _connect_to_bootstrap_server(
        self, bootstrap_info: dict[str, Any]
    ) -> "tuple[zmq.Socket[bytes], AbstractContextManager[object]]":
        """Return the socket to a rank of the prefill server, and its lock."""

    def disconnect_endpoint(self, endpoint: str) -> None:
        """Close the socket to a "tcp://" address, if there is one."""
