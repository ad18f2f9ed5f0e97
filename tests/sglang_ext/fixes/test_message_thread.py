"""The thread that receives decode's messages, SGLang's own, outlives messages that end it upstream."""

import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import zmq

from sglang_ext.fixes.message_thread import keep_receiving

TIMEOUT = 30  # seconds
# A request's room, where its KV goes, and how many such messages complete it.
NIXL = [b"NixlMsgGuard", b"17", b"127.0.0.1", b"1", b"agent", b"", b"0", b"1"]
MOONCAKE = [b"17", b"127.0.0.1", b"1", b"session", b"", b"", b"", b"1"]


class ClearedRooms(dict[int, Any]):
    """Rooms that the scheduler clears as soon as they exist, as it may when a request is aborted.

    A fake: the real race is won once in thousands of aborts.
    """

    def __setitem__(self, room: int, infos: Any) -> None:
        """Keep nothing."""


class FakeManager:
    """What the threads use of a KV manager: SGLang's own needs servers and devices."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self.server_socket = socket
        self.transfer_infos = ClearedRooms()
        self.request_status: dict[int, Any] = {}
        self.aborted = threading.Event()

    def _handle_abort_notification(self, message: list[bytes]) -> bool:
        """NIXL's."""
        if message[0] == b"ABORT":
            self.aborted.set()
        return message[0] == b"ABORT"

    def _send_multipart_locked(self, address: str, message: list[bytes], **_: Any) -> None:
        """Mooncake's answer to an abort."""
        self.aborted.set()


@pytest.fixture(params=[pytest.param(each, marks=pytest.mark.servers) for each in ("nixl", "mooncake")])
def start(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    """Starts the thread of a KV manager."""
    # Here, since it takes seconds, which every process that collects tests would spend.
    if request.param == "nixl":
        from sglang.srt.disaggregation.nixl.conn import NixlKVManager

        return partial(keep_receiving, NixlKVManager._start_bootstrap_thread)
    from sglang.srt.disaggregation.mooncake.conn import MooncakeKVManager

    return partial(keep_receiving, MooncakeKVManager.start_prefill_thread)


@pytest.fixture
def pipe() -> Iterator[tuple["zmq.Socket[bytes]", FakeManager]]:
    """A socket to the manager's."""
    before = set(threading.enumerate())
    context = zmq.Context()
    theirs, ours = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    ours.connect(f"tcp://127.0.0.1:{theirs.bind_to_random_port('tcp://127.0.0.1')}")
    yield ours, FakeManager(theirs)
    receiving = set(threading.enumerate()) - before
    ours.close(0)
    ending = threading.Thread(target=context.term)  # ends what the thread waits for, and waits for its socket
    ending.start()
    for thread in receiving:
        thread.join(TIMEOUT)
        assert not thread.is_alive(), "the thread goes on without its socket"
    theirs.close(0)
    ending.join(TIMEOUT)


@pytest.mark.parametrize("message", [NIXL, MOONCAKE, [b"foreign"], [b"NixlMsgGuard"], [b"\xff"], [b""]])
def test_the_thread_goes_on(
    start: Callable[[Any], None],
    pipe: tuple["zmq.Socket[bytes]", FakeManager],
    message: list[bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours, manager = pipe
    start(manager)
    with caplog.at_level(logging.WARNING):
        ours.send_multipart(message)
        ours.send_multipart([b"ABORT", b"23", b"127.0.0.1", b"1"])
        assert manager.aborted.wait(TIMEOUT), "the thread has ended"
    assert "ignored a message about KV transfer" in caplog.text


@pytest.mark.servers
@pytest.mark.parametrize("start", ["nixl"], indirect=True)
def test_a_room_that_is_cleared_meanwhile_is_what_is_ignored(
    start: Callable[[Any], None], pipe: tuple["zmq.Socket[bytes]", FakeManager], caplog: pytest.LogCaptureFixture
) -> None:
    ours, manager = pipe
    start(manager)
    ours.send_multipart(NIXL)
    ours.send_multipart([b"ABORT", b"23"])
    assert manager.aborted.wait(TIMEOUT)
    assert "KeyError: 17" in caplog.text


@pytest.mark.servers
def test_only_threads_made_meanwhile_go_on() -> None:
    from sglang.srt.disaggregation.nixl import conn

    seen: list[Any] = []

    def starts(_: object) -> None:
        seen.append(conn.threading)

    starts.__module__ = conn.__name__
    keep_receiving(starts, object())
    assert seen[0] is not threading
    assert conn.threading is threading
