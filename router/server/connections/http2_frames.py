"""The lengths of a client's HTTP/2 frames, seen before `h2` keeps them: it would wait for 16 MiB that one announces."""

from router.server.connections.limits import MAX_HEAD_BYTES

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # what a client sends first
FRAME_HEAD_BYTES = 9
MAX_FRAME_BYTES = 16 << 10  # as the protocol has it unless a side says otherwise
HEADERS, CONTINUATION = 1, 9  # types of frames with a request's head


class FrameLengths:
    """Follows what a client sends from its first byte on."""

    def __init__(self) -> None:
        self._left = len(PREFACE)  # bytes until the next frame's head
        self._head = b""  # as much of it as has arrived
        self._request_head = 0  # bytes of the last request's head

    def allowed(self, data: bytes) -> bool:
        """Take the next bytes; False once a frame, or a request's head, is longer than it may be."""
        at = 0
        while True:
            step = min(self._left, len(data) - at)
            at += step
            self._left -= step
            part = data[at : at + FRAME_HEAD_BYTES - len(self._head)] if not self._left else b""
            at += len(part)
            self._head += part
            if len(self._head) < FRAME_HEAD_BYTES:
                return True
            length, kind = int.from_bytes(self._head[:3], "big"), self._head[3]
            self._left, self._head = length, b""
            if kind == HEADERS:
                self._request_head = length
            elif kind == CONTINUATION:
                self._request_head += length
            if length > MAX_FRAME_BYTES or self._request_head > MAX_HEAD_BYTES:
                return False
