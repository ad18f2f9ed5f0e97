"""Real writes of NIXL between SGLang's own managers: none lands in pages that an aborted request has freed."""

import logging
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zmq

from sglang_ext.process_state import process_state
from sglang_ext.transfer import aborts_on_decode
from sglang_ext.transfer.aborts_on_decode import AnswersOfPrefill, hold_failed_on_all_ranks
from tests.sglang_ext.transfer.nixl_pair import BOOTSTRAP, PAGES, TIMEOUT, Pair, nixl_pair

pytestmark = pytest.mark.servers  # imports all of SGLang

ROOM = 17
NEXT = 7  # what the next request has in the pages
FAILED, WAITING, SUCCESS = 0, 2, 4


@pytest.fixture(params=["patched"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Two managers, with all of the patches, those of one server alone, or none."""
    from sglang.srt.disaggregation.nixl.conn import NixlKVManager, NixlKVReceiver

    from sglang_ext.patches import PATCHES
    from sglang_ext.patching.patch import Kind
    from sglang_ext.patching.verify import resolve

    classes = {NixlKVManager: ("patched", "only prefill"), NixlKVReceiver: ("patched", "only decode")}
    for patch in PATCHES:
        for cls, patched in classes.items():
            place, name = patch.target.rsplit(".", 1)
            if ".aborts_on_" not in patch.hook or not place.endswith(cls.__name__) or request.param not in patched:
                continue
            hook: Any = resolve(patch.hook)
            original: Any = getattr(cls, name)
            if patch.kind is Kind.AROUND:
                monkeypatch.setattr(cls, name, _around(original, hook))
            else:
                monkeypatch.setattr(cls, name, _after(original, hook))
    monkeypatch.setattr(aborts_on_decode, "DEADLINE_SECONDS", 10 * TIMEOUT)  # what is not acknowledged hangs
    with nixl_pair() as made:
        yield made


def _around(original: Any, hook: Any) -> Any:
    return lambda *args, **kwargs: hook(original, *args, **kwargs)


def _after(original: Any, hook: Any) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        replaced = hook(result, *args, **kwargs)
        return result if replaced is None else replaced

    return run


def wait_for(condition: Any, seconds: float = TIMEOUT) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.001)
    return bool(condition())


def begin(pair: Pair) -> Any:
    """A transfer whose first write is about to begin, and whose second chunk waits behind it."""
    receiver = pair.receive(ROOM)
    assert wait_for(lambda: ROOM in pair.prefill.transfer_infos)
    pair.send(ROOM, 0, PAGES // 2)
    pair.send(ROOM, PAGES // 2, PAGES // 2)
    assert pair.agent.begun.acquire(timeout=TIMEOUT)
    assert receiver.poll() == WAITING
    return receiver


def reuse_pages(pair: Pair) -> None:
    """What decode does with a request that has failed, and the next one with its pages."""
    pair.pages[:] = NEXT
    pair.aux[:] = NEXT


def untouched(pair: Pair) -> bool:
    return bool(np.all(pair.pages == NEXT) and np.all(pair.aux == NEXT))


def transferred(pair: Pair, room: int) -> bool:
    """Whether a request that comes then gets its KV: the transfer threads have done what was before it."""
    receiver = pair.receive(room)
    assert wait_for(lambda: room in pair.prefill.transfer_infos)
    pair.send(room, 0, PAGES)
    return wait_for(lambda: receiver.poll() == SUCCESS) and bool(np.all(pair.pages == 1))


@pytest.mark.parametrize("pair", ["unpatched", "only prefill"], indirect=True)
def test_sglang_alone_writes_into_pages_that_are_used_again(pair: Pair) -> None:
    """The fault; once SGLang has none any more, the patches can go."""
    receiver = begin(pair)
    receiver.abort()
    assert receiver.poll() == FAILED
    reuse_pages(pair)
    pair.agent.may_write.set()
    assert wait_for(lambda: not untouched(pair))


def test_pages_are_kept_until_the_last_write_has_ended(pair: Pair) -> None:
    receiver = begin(pair)
    receiver.abort()
    for _ in range(50):
        assert receiver.poll() == WAITING
        time.sleep(0.01)
    pair.agent.may_write.set()
    assert wait_for(lambda: receiver.poll() == FAILED)
    assert np.all(pair.pages[: PAGES // 2] == 1), "the first chunk was under way"
    reuse_pages(pair)
    time.sleep(0.2)
    assert untouched(pair), "the second chunk was sent"
    assert transferred(pair, ROOM + 1)


def test_a_timeout_keeps_them_too(pair: Pair) -> None:
    receiver = begin(pair)
    pair.decode.waiting_timeout = 0.0
    assert receiver.poll() == WAITING
    assert receiver.abort_notified
    pair.decode.waiting_timeout = TIMEOUT
    time.sleep(0.2)
    assert receiver.poll() == WAITING
    pair.agent.may_write.set()
    assert wait_for(lambda: receiver.poll() == FAILED)
    reuse_pages(pair)
    time.sleep(0.2)
    assert untouched(pair)


def test_a_write_that_fails_ends_the_wait(pair: Pair) -> None:
    receiver = begin(pair)
    receiver.abort()
    pair.agent.fails = True
    assert receiver.poll() == WAITING
    pair.agent.may_write.set()
    assert wait_for(lambda: receiver.poll() == FAILED)


def test_what_nobody_sends_yet_is_free_at_once(pair: Pair) -> None:
    receiver = pair.receive(ROOM)
    receiver.abort()
    assert wait_for(lambda: receiver.poll() == FAILED)
    pair.agent.may_write.set()
    reuse_pages(pair)
    pair.send(ROOM, 0, PAGES)  # prefill learns of the abort when it wants to send
    time.sleep(0.2)
    assert untouched(pair)


def test_a_room_can_be_used_again(pair: Pair) -> None:
    receiver = pair.receive(ROOM)
    receiver.abort()
    assert wait_for(lambda: receiver.poll() == FAILED)
    receiver.clear()
    pair.prefill.request_status.pop(ROOM, None)  # as SGLang's sender clears a request that has failed
    pair.prefill.transfer_infos.pop(ROOM, None)
    pair.agent.may_write.set()
    assert transferred(pair, ROOM)


def test_a_room_that_another_decode_server_aborted_can_be_used(pair: Pair) -> None:
    pair.prefill._handle_abort_notification([b"ABORT", str(ROOM).encode(), b"10.0.0.9", b"1"])
    pair.agent.may_write.set()
    assert transferred(pair, ROOM)


LOST = {"rank_ip": "127.0.0.1", "rank_port": 1, "is_dummy": False}


@pytest.fixture
def full_queue(pair: Pair) -> Iterator[Any]:
    """As many messages to a lost rank as ZeroMQ keeps."""
    from sglang.srt.disaggregation.nixl.conn import NixlKVReceiver

    socket, _ = NixlKVReceiver._connect_to_bootstrap_server(LOST)
    while socket.poll(0, zmq.POLLOUT):
        socket.send(b"a message that nobody takes", zmq.NOBLOCK)
    yield socket
    NixlKVReceiver.disconnect_endpoint("tcp://127.0.0.1:1")


@pytest.mark.timeout(2 * TIMEOUT)
def test_the_scheduler_does_not_wait_for_a_rank_whose_queue_is_full(pair: Pair, full_queue: Any) -> None:
    receiver = begin(pair)
    receiver.bootstrap_infos, receiver.abort_notified = [LOST], True
    receiver.abort()
    full_queue.sndtimeo = -1  # who waits for room waits for ever
    assert receiver.poll() == WAITING


@pytest.mark.usefixtures("full_queue")
def test_a_rank_that_was_told_the_pages_before_another_one_failed_is_waited_for(pair: Pair) -> None:
    receiver = pair.connect(ROOM)
    receiver.bootstrap_infos = [*receiver.bootstrap_infos, LOST]
    pair.tell_pages(receiver)  # the message to the second rank fails
    assert not receiver.started_transfer
    assert wait_for(lambda: ROOM in pair.prefill.transfer_infos)
    pair.send(ROOM, 0, PAGES)
    assert pair.agent.begun.acquire(timeout=TIMEOUT)
    assert receiver.poll() == WAITING


def test_nobody_is_asked_who_was_not_told_the_pages(pair: Pair) -> None:
    receiver = pair.connect(ROOM)
    receiver.abort()
    assert receiver.poll() == FAILED
    assert not process_state.get(AnswersOfPrefill)._questions


def test_the_scheduler_goes_on_where_no_socket_can_be_opened(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = begin(pair)
    receiver.bootstrap_infos, receiver.abort_notified = [{"rank_ip": "no address", "rank_port": 1}], True
    receiver.abort()
    assert receiver.poll() == WAITING
    monkeypatch.setattr(process_state.get(AnswersOfPrefill)._questions[receiver], "deadline", 0.0)
    assert receiver.poll() == FAILED


def lose(pair: Pair, how: str) -> None:
    """What the heartbeat's thread does when it takes the prefill server for lost; and when a new one has come."""
    pair.decode._handle_node_failure(BOOTSTRAP)
    if how == "restarted":
        pair.decode.prefill_info_table[BOOTSTRAP] = object()


@pytest.mark.parametrize("how", ["lost", "restarted"])
@pytest.mark.parametrize("asked", [True, False])
def test_a_prefill_server_that_is_lost_is_waited_for_briefly(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str, asked: bool
) -> None:
    monkeypatch.setattr(aborts_on_decode, "LOST_SECONDS", 0.5)
    receiver = begin(pair)
    endpoint = f"tcp://127.0.0.1:{pair.prefill.rank_port}"
    if asked:
        receiver.abort()
        assert receiver.poll() == WAITING
    lose(pair, how)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert receiver.poll() == WAITING
        assert wait_for(lambda: receiver.poll() == FAILED)
    assert time.monotonic() - began >= 0.5
    assert "did not say" not in caplog.text
    assert endpoint not in receiver._socket_cache, "each restart would leave a socket"


def test_a_prefill_server_that_only_looks_lost_does_not_write_into_pages_that_are_used_again(pair: Pair) -> None:
    receiver = begin(pair)
    lose(pair, "lost")
    assert receiver.poll() == WAITING
    pair.agent.may_write.set()
    assert wait_for(lambda: receiver.poll() == FAILED)
    reuse_pages(pair)
    time.sleep(0.2)
    assert untouched(pair)


@pytest.mark.parametrize("pair", ["only decode"], indirect=True)
def test_a_prefill_server_without_the_overlay_is_waited_for_until_the_deadline(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(aborts_on_decode, "DEADLINE_SECONDS", 1.0)
    receiver = begin(pair)
    receiver.abort()
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert wait_for(lambda: receiver.poll() == FAILED)
        assert receiver.poll() == FAILED
    assert time.monotonic() - began >= 1.0
    assert caplog.text.count(f"room {ROOM}; its pages are used again") == 1
    pair.agent.may_write.set()
    assert transferred(pair, ROOM + 1), "the message that asks has harmed nothing"


def ranks(receiver: Any, others: int, monkeypatch: pytest.MonkeyPatch, *, stages: int = 1) -> Any:
    """Decode's queue with one transfer on two ranks. The other one, `others` of whose transfers wait, is fake."""
    from torch import distributed

    def all_reduce(mine: Any, op: Any, group: Any) -> None:
        assert op == distributed.ReduceOp.MAX
        mine[:] = max(int(mine[0]), others)

    monkeypatch.setattr(distributed, "all_reduce", all_reduce)
    monkeypatch.setattr(distributed, "get_world_size", lambda group: 2)
    scheduler = SimpleNamespace(ps=SimpleNamespace(pp_size=stages))
    return SimpleNamespace(queue=[SimpleNamespace(kv_receiver=receiver)], gloo_group=None, scheduler=scheduler)


def test_a_rank_that_is_acknowledged_waits_for_the_others(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = pair.receive(ROOM)
    receiver.abort()
    assert wait_for(lambda: receiver.poll() == FAILED)
    assert hold_failed_on_all_ranks([FAILED], ranks(receiver, 1, monkeypatch)) == [WAITING]
    assert hold_failed_on_all_ranks([FAILED], ranks(receiver, 0, monkeypatch)) == [FAILED]
    assert hold_failed_on_all_ranks([FAILED], ranks(receiver, 1, monkeypatch, stages=2)) is None


def test_a_rank_whose_transfer_goes_on_asks_when_another_one_fails(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = begin(pair)
    queue = ranks(receiver, 0, monkeypatch)
    assert hold_failed_on_all_ranks([FAILED], queue) == [WAITING]
    pair.agent.may_write.set()
    assert wait_for(lambda: hold_failed_on_all_ranks([FAILED], queue) == [FAILED])
    reuse_pages(pair)
    time.sleep(0.2)
    assert untouched(pair)


def test_nothing_is_agreed_on_where_nothing_has_failed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hold_failed_on_all_ranks([WAITING], ranks(pair.receive(ROOM), 1, monkeypatch)) is None
