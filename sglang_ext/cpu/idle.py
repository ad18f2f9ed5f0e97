"""Processes without work wait for it; SGLang's ask for it again at once, and take a core each."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sglang_ext.upstream.data_parallel import DataParallelController
from sglang_ext.upstream.scheduler import Scheduler

if TYPE_CHECKING:
    import zmq

SLEEP_SECONDS = 0.001
WAIT_MILLISECONDS = 100  # a request ends the wait; the controller tells its watchdog that it lives in between


def sleep_when_idle(result: None, scheduler: Scheduler, *args: Any, **kwargs: Any) -> None:
    """AFTER `Scheduler.on_idle`, which returns at once while a transfer or a handshake is pending."""
    time.sleep(SLEEP_SECONDS)


class WaitingSocket:
    """A ZeroMQ socket that waits a moment for a message even when it is asked not to."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._socket = socket

    def recv(self, flags: int = 0) -> bytes:
        """The next message; raises `zmq.Again` when none has come in time."""
        self._socket.poll(WAIT_MILLISECONDS)
        return self._socket.recv(flags)

    def recv_pyobj(self, flags: int = 0) -> Any:
        """The next message as a pickled object; raises `zmq.Again` when none has come in time."""
        self._socket.poll(WAIT_MILLISECONDS)
        return self._socket.recv_pyobj(flags)


def wait_for_requests(event_loop: Callable[[DataParallelController], None], controller: DataParallelController) -> None:
    """AROUND `DataParallelController.event_loop`, which reads without waiting and never ends."""
    controller.recv_from_tokenizer = WaitingSocket(controller.recv_from_tokenizer)
    event_loop(controller)
