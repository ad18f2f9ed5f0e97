"""A decode server keeps the pages of an aborted request until its prefill server has stopped writing into them.

SGLang 0.5.17 frees the pages and the place for the first token at once. The next request that gets them has wrong
KV, or fails with "Context corruption detected".

A request that has failed looks as if it still waits for its KV, until each rank of the prefill server that was told
its pages has acknowledged the abort (`aborts_on_prefill`), the prefill server is lost, or `DEADLINE_SECONDS` are
over. That takes as long as the chunk that is being sent.
"""

import logging
import time
import uuid
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import zmq

from sglang_ext.upstream.scheduler import TransferQueue
from sglang_ext.upstream.transfer import KVManager, KVReceiver

logger = logging.getLogger(__name__)
# A chunk takes milliseconds. After two failed heartbeats, 10 s, a prefill server counts as lost; one that does not
# answer but lives has no overlay, and each aborted request would hold its pages.
DEADLINE_SECONDS = 10.0


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
    """Whether the prefill server may still write into the pages of a request that has failed; asks it once."""
    from sglang.srt.disaggregation.base.conn import KVPoll

    if not getattr(receiver, "started_transfer", False) or receiver.conclude_state == KVPoll.Success:
        return False  # it is not of NIXL, or nobody knows its pages, or all has been written
    manager = receiver.kv_mgr
    answers = _answers.get(manager)
    if answers is None:
        answers = _answers[manager] = Answers(manager)
    # A server that restarted is another one with the same address.
    is_lost = manager.prefill_info_table.get(receiver.bootstrap_addr) is not receiver.prefill_info
    return answers.is_open(receiver, give_up=is_lost)


@dataclass
class _Question:
    tickets: set[bytes]  # one for each rank of the prefill server that has not answered
    deadline: float


class Answers:
    """What a decode server's KV manager has asked prefill servers, and the socket for their answers.

    Only the scheduler's thread uses it.
    """

    def __init__(self, manager: KVManager) -> None:
        from sglang.srt.utils.network import get_zmq_socket_on_host

        self._port, self._socket = get_zmq_socket_on_host(manager._zmq_ctx, zmq.PULL, host=manager.local_ip)
        self._questions: WeakKeyDictionary[KVReceiver, _Question] = WeakKeyDictionary()

    def is_open(self, receiver: KVReceiver, *, give_up: bool) -> bool:
        """Whether an answer for a request is missing. Asks at the first call; `give_up` ends it."""
        question = self._questions.get(receiver)
        if question is None:
            question = self._questions[receiver] = _Question(set(), time.monotonic() + DEADLINE_SECONDS)
            if not give_up:
                self._ask(receiver, question)
        self._read()
        if not question.tickets:
            return False
        if give_up:
            question.tickets.clear()
        elif time.monotonic() < question.deadline:
            receiver.kv_mgr.update_transfer_status()  # without a progress thread here, no write ends but in this call
        else:
            question.tickets.clear()
            logger.warning(
                "the prefill server behind %s did not say within %g s that it has stopped sending the aborted "
                "request of room %d; its pages are used again.",
                *(receiver.bootstrap_addr, DEADLINE_SECONDS, receiver.bootstrap_room),
            )
        return bool(question.tickets)

    def _ask(self, receiver: KVReceiver, question: _Question) -> None:
        manager = receiver.kv_mgr
        for rank in receiver.bootstrap_infos or []:
            ticket = uuid.uuid4().bytes
            question.tickets.add(ticket)
            told = (receiver.bootstrap_room, manager.local_ip, manager.rank_port, self._port)
            socket, lock = receiver._connect_to_bootstrap_server(rank)
            try:
                with lock:
                    socket.send_multipart([b"ABORT", *(str(each).encode() for each in told), ticket])
            except zmq.ZMQError as error:
                logger.debug("room %d: %s", receiver.bootstrap_room, error)

    def _read(self) -> None:
        answered = set()
        while self._socket.poll(0):
            answered.add(self._socket.recv())
        for question in self._questions.values() if answered else ():
            question.tickets -= answered


_answers: "WeakKeyDictionary[KVManager, Answers]" = WeakKeyDictionary()
