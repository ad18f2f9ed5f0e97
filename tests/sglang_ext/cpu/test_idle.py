"""Processes without work leave the cores to others."""

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

from sglang_ext.cpu.idle import WAIT_MILLISECONDS, wait_for_requests

pytestmark = pytest.mark.servers  # imports all of SGLang

ROUNDS = 4


class Ended(Exception):
    pass


def test_the_dispatch_to_ranks_waits_for_requests() -> None:
    """SGLang's own loop over real sockets; only what it does with a request is left out."""
    from sglang.srt.managers.data_parallel_controller import DataParallelController
    from sglang.srt.managers.io_struct import AbortReq, sock_send

    fed: list[float] = []
    requests: list[str] = []
    quiet = threading.Event()

    def feed() -> None:
        fed.append(time.monotonic())
        if len(fed) == ROUNDS:
            quiet.set()

    def dispatch(request: Any) -> None:
        requests.append(request.rid)
        if request.rid == "last":
            raise Ended

    context = zmq.Context()
    theirs, ours = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    ours.connect(f"tcp://127.0.0.1:{theirs.bind_to_random_port('tcp://127.0.0.1')}")
    controller: Any = SimpleNamespace(
        recv_from_tokenizer=theirs, soft_watchdog=SimpleNamespace(feed=feed), _request_dispatcher=dispatch
    )

    def loop() -> None:
        with pytest.raises(Ended):
            wait_for_requests(DataParallelController.event_loop, controller)

    with context, theirs, ours:
        thread = threading.Thread(target=loop)
        thread.start()
        assert quiet.wait(600), "its watchdog hears of it while nothing comes"
        for rid in ("first", "last"):
            sock_send(ours, AbortReq(rid=rid))
        thread.join(600)
    assert requests == ["first", "last"]
    assert fed[ROUNDS - 1] - fed[0] > 0.9 * (ROUNDS - 1) * WAIT_MILLISECONDS / 1000, "it does not ask again at once"
