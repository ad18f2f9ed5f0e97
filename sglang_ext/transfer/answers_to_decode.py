"""The sockets by which a prefill server answers decode servers.

There is one for each rank of a decode server. One for each answer would be too many: a ZeroMQ context has 1023 sockets,
some are SGLang's own, and a decode server that aborts all of its requests asks for more answers than that at once.
"""

import logging
import threading
from collections import OrderedDict

import zmq

logger = logging.getLogger(__name__)
MAX_SOCKETS = 256  # each start of a decode rank has a new port; the one that was used least recently is closed
MAX_UNSENT = 10_000  # answers for one rank that cannot be reached
LINGER_MS = 10_000  # as long as `aborts_on_decode` waits


class AnswersToDecode:
    """Sends tickets; any thread may, and none waits.

    Args:
        context: The KV manager's.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self._context = context
        self._lock = threading.Lock()
        self._sockets: OrderedDict[tuple[str, int], zmq.Socket[bytes]] = OrderedDict()  # the most recently used last

    def send(self, host: str, port: int, ticket: bytes) -> None:
        """Send a ticket to where a decode rank receives answers."""
        try:
            with self._lock:
                self._socket(host, port).send(ticket, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            logger.warning("no acknowledgement of an aborted transfer to %s, port %d: %s", host, port, error)

    def _socket(self, host: str, port: int) -> "zmq.Socket[bytes]":
        from sglang.srt.utils.network import NetworkAddress

        socket = self._sockets.pop((host, port), None)
        if socket is None:
            target = NetworkAddress(host, port)
            socket = self._context.socket(zmq.PUSH)
            socket.ipv6 = target.is_ipv6
            socket.linger, socket.sndhwm = LINGER_MS, MAX_UNSENT
            try:
                socket.connect(target.to_tcp())
            except zmq.ZMQError:
                socket.close(0)
                raise
            if len(self._sockets) >= MAX_SOCKETS:
                self._sockets.popitem(last=False)[1].close()
        self._sockets[host, port] = socket
        return socket
