"""SGLang's own NIXL managers of a prefill and a decode server in this process, over a few pages of host memory.

What is fake: the common part of their start (ranks, HTTP, heartbeats), and in `SlowAgent` the time that a write takes.
"""

import contextlib
import gc
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import zmq

from sglang_ext.fixes.message_thread import keep_receiving
from sglang_ext.process_state import process_state
from sglang_ext.transfer.aborts_on_decode import AnswersOfPrefill
from sglang_ext.transfer.aborts_on_prefill import AbortsOnPrefill

PAGES, PAGE_BYTES = 8, 4096
AUX_BYTES = 64
BOOTSTRAP = "127.0.0.1:1"
TIMEOUT = 60.0  # seconds, for what hangs


class SlowAgent:
    """A NIXL agent whose writes begin only when they may: the only thing that is fake about them."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent
        self.may_write = threading.Event()
        self.begun = threading.Semaphore(0)  # writes that wait for it
        self.fails = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.agent, name)

    def transfer(self, handle: Any) -> str:
        self.begun.release()
        assert self.may_write.wait(TIMEOUT)
        if self.fails:
            raise RuntimeError("the link is down")
        return str(self.agent.transfer(handle))


class _Last:
    """Ends the transfer thread that takes it from its queue, and with it what the thread holds."""

    @property
    def room(self) -> int:
        raise SystemExit


@dataclass
class Pair:
    """Both managers and the memory of decode."""

    prefill: Any
    decode: Any
    agent: SlowAgent
    pages: "np.ndarray[Any, np.dtype[np.uint8]]"  # of decode
    aux: "np.ndarray[Any, np.dtype[np.uint8]]"

    def receive(self, room: int) -> Any:
        """Begin a transfer into all pages; returns decode's receiver."""
        receiver = self.connect(room)
        self.tell_pages(receiver)
        return receiver

    def connect(self, room: int) -> Any:
        """Make a receiver whose prefill server knows decode, but not yet the pages."""
        from sglang.srt.disaggregation.nixl.conn import NixlKVReceiver

        receiver = NixlKVReceiver(self.decode, BOOTSTRAP, room)
        receiver.required_dst_info_num = 1
        receiver.prefill_info = self.decode.prefill_info_table[BOOTSTRAP]
        receiver.bootstrap_infos = [
            {"rank_ip": self.prefill.local_ip, "rank_port": self.prefill.rank_port, "is_dummy": False}
        ]
        self.decode.connection_pool[f"{BOOTSTRAP}_0_0_0"] = receiver.bootstrap_infos
        receiver._register_kv_args()
        return receiver

    def tell_pages(self, receiver: Any) -> None:
        """Tell the prefill server where the KV goes: into all pages."""
        receiver.send_metadata(np.arange(PAGES, dtype=np.int32), 0)

    def send(self, room: int, first: int, pages: int) -> None:
        """Hand a chunk to a transfer thread; the last one brings the first token too."""
        wanted = np.arange(first, first + pages, dtype=np.int32)
        is_last = first + pages == PAGES
        self.prefill.add_transfer_request(room, wanted, slice(first, first + pages), is_last, first // pages, 0)


@contextlib.contextmanager
def nixl_pair() -> Iterator[Pair]:
    """Start both managers; in the end their threads end, and all that they hold is given back."""
    from sglang.srt.disaggregation.nixl import conn
    from sglang.srt.disaggregation.utils import DisaggregationMode

    from sglang_ext.cpu.transfer import use_host_memory

    made, before = [], set(threading.enumerate())
    receives = conn.NixlKVManager._start_bootstrap_thread
    transfers = conn.NixlKVManager.transfer_worker

    def transfer_until_last(*args: Any) -> None:
        with contextlib.suppress(SystemExit):
            transfers(*args)

    aborts, answers = AbortsOnPrefill(), AnswersOfPrefill()
    kept = patch.dict(process_state._parts, {AbortsOnPrefill: aborts, AnswersOfPrefill: answers})
    kept.start()
    with (
        patch.object(conn.CommonKVManager, "__init__", _start),
        patch.object(conn.NixlKVManager, "transfer_worker", transfer_until_last),
        patch.object(conn.CommonKVManager, "_start_heartbeat_checker_thread", lambda _: None),
        patch.object(conn.NixlKVManager, "_start_bootstrap_thread", lambda manager: keep_receiving(receives, manager)),
    ):
        for mode in (DisaggregationMode.PREFILL, DisaggregationMode.DECODE):
            fill = 1 if mode == DisaggregationMode.PREFILL else 0
            pages = np.full((PAGES, PAGE_BYTES), fill, dtype=np.uint8)
            aux = np.full(AUX_BYTES, fill, dtype=np.uint8)
            manager: Any = object.__new__(conn.NixlKVManager)
            arguments = SimpleNamespace(tp_size=1, pp_size=1)
            use_host_memory(conn.NixlKVManager.__init__, manager, _kv_args(pages, aux), mode, arguments)
            made.append((manager, pages, aux))
    (prefill, *_), (decode, pages, aux) = made
    agent = prefill.agent = SlowAgent(prefill.agent)
    started = set(threading.enumerate()) - before
    receiving = [each for each in started if not each.daemon]
    try:
        yield Pair(prefill, decode, agent, pages, aux)
    finally:
        agent.may_write.set()
        if answers._socket is not None:
            answers._socket.close(0)
        for manager, *_ in made:
            ending = threading.Thread(target=manager._zmq_ctx.term)  # ends what a thread waits for, and waits for it
            ending.start()
            for thread in receiving if manager is prefill else ():
                thread.join(TIMEOUT)
            manager.server_socket.close(0)
            deadline = time.monotonic() + TIMEOUT
            while ending.is_alive() and time.monotonic() < deadline:
                if manager is prefill and aborts.answers is not None:
                    for socket in list(aborts.answers._sockets.values()):  # a transfer thread may open one more
                        socket.close(0)
                ending.join(0.01)
        for queue in prefill.transfer_queues:
            queue.put(_Last())
        deadline = time.monotonic() + TIMEOUT
        while any(thread.is_alive() for thread in started) and time.monotonic() < deadline:
            decode.agent.get_new_notifs()  # what is under way ends when both sides look
            time.sleep(0.001)
        for manager in (prefill, decode):
            vars(manager).clear()  # a test that failed may hold it, and its agent has a hundred open files
        del agent.agent
        kept.stop()
        gc.collect()


def _start(manager: Any, args: Any, mode: Any, server_args: Any, is_mla: bool = False) -> None:
    """What `CommonKVManager.__init__` sets that NIXL's managers use."""
    manager.kv_args, manager.disaggregation_mode, manager.server_args = args, mode, server_args
    manager.is_mla_backend = manager.is_hybrid_mla_backend = is_mla
    manager.attn_tp_size = manager.pp_size = manager.dcp_size = 1
    manager.dcp_rank, manager.local_ip = 0, "127.0.0.1"
    manager._zmq_ctx = zmq.Context()
    manager.server_socket = manager._zmq_ctx.socket(zmq.PULL)
    manager.rank_port = manager.server_socket.bind_to_random_port("tcp://127.0.0.1")
    manager.request_status, manager.failure_records, manager.failure_lock = {}, {}, threading.Lock()
    manager.transfer_infos, manager.req_to_decode_prefix_len, manager.decode_kv_args_table = {}, {}, {}
    manager._kv_replica_factor = 1
    manager.addr_to_rooms_tracker = defaultdict(set)
    manager.required_prefill_response_num_table, manager.prefill_response_tracker = {}, {}
    manager.prefill_info_table = {BOOTSTRAP: object()}
    manager.connection_pool, manager.connection_lock = {}, threading.Lock()
    manager.waiting_timeout = TIMEOUT


def _kv_args(pages: "np.ndarray[Any, Any]", aux: "np.ndarray[Any, Any]") -> Any:
    return SimpleNamespace(
        engine_rank=0,
        pp_rank=0,
        gpu_id=0,
        page_size=1,
        kv_data_ptrs=[pages.ctypes.data],
        kv_data_lens=[pages.nbytes],
        kv_item_lens=[PAGE_BYTES],
        kv_layer_ids=[0],
        aux_data_ptrs=[aux.ctypes.data],
        aux_data_lens=[aux.nbytes],
        aux_item_lens=[AUX_BYTES],
        state_data_ptrs=[],
        state_data_lens=[],
        state_item_lens=[],
        state_layer_ids=[],
    )
