"""Random ids and bootstrap rooms, from the system's random numbers.

Not from `random`: a program that seeds it would repeat its bootstrap rooms, and SGLang hangs on a room that was used
before. Many bytes are fetched at a time, because a system call for each id would be felt.
"""

import os

BUFFER_SIZE = 4096  # bytes


class _RandomBytes:
    """A buffer of random bytes."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Drop the buffer: a forked process must not give out the same bytes as its parent."""
        self._buffer = b""
        self._offset = 0

    def read(self, count: int) -> bytes:
        """The next bytes."""
        if self._offset + count > len(self._buffer):
            self._buffer, self._offset = os.urandom(BUFFER_SIZE), 0
        value = self._buffer[self._offset : self._offset + count]
        self._offset += count
        return value


_random_bytes = _RandomBytes()
os.register_at_fork(after_in_child=_random_bytes.clear)


def new_id() -> str:
    """A unique id of 32 hexadecimal digits."""
    return _random_bytes.read(16).hex()


def new_bootstrap_room() -> int:
    """A unique bootstrap room of 62 bits: SGLang adds small offsets to it for `n` > 1."""
    return int.from_bytes(_random_bytes.read(8), "little") >> 2
