"""A decode server keeps the pages of an aborted request until its prefill server has stopped writing into them.

SGLang 0.5.17 frees the pages and the place for the first token at once. The next request that gets them has wrong
KV, or fails with "Context corruption detected".

Here, a failed request seems to wait for its KV until each rank of the prefill server that knows its pages has
acknowledged the abort (`aborts_on_prefill`), or a deadline is over. This takes as long as the chunk that is being sent.

A lost prefill server is asked too: one that is only slow to answer SGLang's heartbeat, which another of its processes
does, would send all the rest of each request.
"""

import logging
import time
import uuid
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import zmq

from sglang_ext.process_state import process_state
from sglang_ext.upstream.scheduler import TransferQueue
from sglang_ext.upstream.transfer import KVManager, KVReceiver

logger = logging.getLogger(__name__)
# A chunk takes milliseconds. A prefill server that does not answer but lives has no overlay, and each aborted request
# would hold its pages.
DEADLINE_SECONDS = 10.0
LOST_SECONDS = 2.0  # for one that SGLang has given up: most likely nobody is there


def hold_failed(result: int, receiver: KVReceiver) -> int | None:
    """AFTER `NixlKVReceiver.poll`: a failed request waits until nobody writes into its pages."""
    from sglang.srt.disaggregation.base.conn import KVPoll

    return KVPoll.WaitingForInput if result == KVPoll.Failed and is_written_to(receiver) else None


def hold_failed_on_all_ranks(result: list[int], queue: TransferQueue) -> list[int] | None:
    """AFTER the polls of `DecodeTransferQueue`, in which one rank's failure is the failure of all.

    They free their pages in the same step, so each must wait for all. Ranks whose own transfer has not failed ask
    here. Pipeline stages agree before this on what has ended, so with them each rank waits only for itself.
    """
    import torch
    from sglang.srt.disaggregation.base.conn import KVPoll

    group = queue.gloo_group
    if KVPoll.Failed not in result or queue.scheduler.ps.pp_size > 1 or torch.distributed.get_world_size(group) == 1:
        return None
    held = [
        poll == KVPoll.Failed and is_written_to(each.kv_receiver)
        for poll, each in zip(result, queue.queue, strict=True)
    ]
    on_any_rank = torch.tensor(held, dtype=torch.uint8)
    torch.distributed.all_reduce(on_any_rank, op=torch.distributed.ReduceOp.MAX, group=group)
    return [KVPoll.WaitingForInput if hold else poll for poll, hold in zip(result, on_any_rank.tolist(), strict=True)]


def is_written_to(receiver: KVReceiver) -> bool:
    """Whether the prefill server may still write into the pages of a failed request; the first call asks it."""
    from sglang.srt.disaggregation.base.conn import KVPoll

    # The first one is NIXL's. `send_metadata` sets the second before its first message, the first after its last.
    knows_pages = hasattr(receiver, "started_transfer") and hasattr(receiver, "chunk_staging_infos")
    if not knows_pages or receiver.conclude_state == KVPoll.Success:
        return False
    manager = receiver.kv_mgr
    # A server that restarted is another one with the same address.
    is_lost = manager.prefill_info_table.get(receiver.bootstrap_addr) is not receiver.prefill_info
    return process_state.get(AnswersOfPrefill).is_open(receiver, is_lost=is_lost)


@dataclass
class _Question:
    tickets: set[bytes]  # one for each rank of the prefill server that has not answered
    deadline: float


class AnswersOfPrefill:
    """What a decode server has asked prefill servers, and the socket for their answers. Only its scheduler uses it."""

    def __init__(self) -> None:
        self._port = 0
        self._socket: zmq.Socket[bytes] | None = None  # of the KV manager's context, from the first question on
        self._questions: WeakKeyDictionary[KVReceiver, _Question] = WeakKeyDictionary()

    def is_open(self, receiver: KVReceiver, *, is_lost: bool) -> bool:
        """Whether an answer for a request is missing and not yet given up. Asks at the first call."""
        question = self._questions.get(receiver)
        if question is None:
            question = self._questions[receiver] = _Question(set(), time.monotonic() + DEADLINE_SECONDS)
            self._ask(receiver, question)
        self._read()
        if not question.tickets:
            return False
        now = time.monotonic()
        if is_lost:
            question.deadline = min(question.deadline, now + LOST_SECONDS)
        if now < question.deadline:
            receiver.kv_mgr.update_transfer_status()  # without a progress thread here, no write ends but in this call
            return True
        question.tickets.clear()
        if is_lost:
            _forget_sockets(receiver)
        else:
            logger.warning(
                "the prefill server behind %s did not say within %g s that it has stopped sending the aborted "
                "request of room %d; its pages are used again.",
                *(receiver.bootstrap_addr, DEADLINE_SECONDS, receiver.bootstrap_room),
            )
        return False

    def _ask(self, receiver: KVReceiver, question: _Question) -> None:
        manager = receiver.kv_mgr
        self._listen(manager)
        for rank in receiver.bootstrap_infos or []:
            ticket = uuid.uuid4().bytes
            question.tickets.add(ticket)
            told = (receiver.bootstrap_room, manager.local_ip, manager.rank_port, self._port)
            try:
                socket, lock = receiver._connect_to_bootstrap_server(rank)
                with lock:  # SGLang's own sends wait up to 1 s where the queue to a lost server is full
                    socket.send_multipart([b"ABORT", *(str(each).encode() for each in told), ticket], zmq.NOBLOCK)
            except zmq.ZMQError as error:
                logger.debug("room %d: %s", receiver.bootstrap_room, error)

    def _listen(self, manager: KVManager) -> None:
        from sglang.srt.utils.network import get_zmq_socket_on_host

        if self._socket is None:
            self._port, self._socket = get_zmq_socket_on_host(manager._zmq_ctx, zmq.PULL, host=manager.local_ip)

    def _read(self) -> None:
        answered = set()
        while self._socket is not None and self._socket.poll(0):
            answered.add(self._socket.recv())
        for question in self._questions.values() if answered else ():
            question.tickets -= answered


def _forget_sockets(receiver: KVReceiver) -> None:
    """Close what asking a lost server has opened again, unless the server is back: each start has new ports."""
    from sglang.srt.utils.network import NetworkAddress

    manager = receiver.kv_mgr
    with manager.connection_lock:
        known = [rank for ranks in manager.connection_pool.values() for rank in ranks]
    for rank in receiver.bootstrap_infos or []:
        if rank not in known:
            receiver.disconnect_endpoint(NetworkAddress(rank["rank_ip"], rank["rank_port"]).to_tcp())
