"""A client's HTTP/2 frames, seen before `h2` has them: their lengths, and how many move no request.

`h2` would wait for 16 MiB that a frame announces, and takes time for many frames of which it tells nothing.
"""

from router.server.connections.limits import MAX_HEAD_BYTES

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # what a client sends first
FRAME_HEAD_BYTES = 9
MAX_FRAME_BYTES = 16 << 10  # as the protocol has it unless a side says otherwise
DATA, HEADERS, WINDOW_UPDATE, CONTINUATION = 0, 1, 8, 9  # types of frames
USEFUL_BYTES = 256  # of a request's body, in a frame
MAX_FREE_FRAMES = 1000  # of a kind, at once, that are owed to what went before


class FrameLengths:
    """Follows what a client sends from its first byte on.

    Attributes:
        idle_frames: Frames that moved no request, until the reader sets it to 0.
        sent_frames: Frames of bodies sent to the client that it may still answer by making room; the sender adds to it.
    """

    def __init__(self) -> None:
        self._left = len(PREFACE)  # bytes until the next frame's head
        self._head = b""  # as much of it as has arrived
        self._request_head = 0  # bytes of the last request's head
        self._highest = 0  # number of a stream
        self._begins = False  # whether the last head begins a request
        self._may_end = 0  # requests that may still send a small piece of a body for nothing: most end with one
        self.idle_frames = 0
        self.sent_frames = 0.0

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
            self._count(kind, length, int.from_bytes(self._head[5:], "big") & 0x7FFFFFFF)
            self._left, self._head = length, b""
            if kind == HEADERS:
                self._request_head = length
            elif kind == CONTINUATION:
                self._request_head += length
            if length > MAX_FRAME_BYTES or self._request_head > MAX_HEAD_BYTES:
                return False

    def _count(self, kind: int, length: int, number: int) -> None:
        if kind == HEADERS:
            self._begins = number > self._highest
            if self._begins:
                self._highest = number
                self._may_end = min(self._may_end + 1, MAX_FREE_FRAMES)
                return
        elif (kind == CONTINUATION and self._begins) or (kind == DATA and length >= USEFUL_BYTES):
            return
        elif kind == DATA and self._may_end:
            self._may_end -= 1
            return
        elif kind == WINDOW_UPDATE and self.sent_frames >= 0.5:
            self.sent_frames = (
                min(self.sent_frames, MAX_FREE_FRAMES) - 0.5
            )  # one for the stream, one for the connection
            return
        self.idle_frames += 1
