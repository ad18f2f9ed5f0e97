"""Random numbers of the system's, fetched many at a time: a system call for each would be felt.

Not `random`: a program that seeds it would repeat its room numbers, and SGLang hangs on a room that was used before.
"""

import os

POOL = 4096  # bytes


class _Pool:
    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """A forked process must not give out what its parent gives out too."""
        self._bytes = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._bytes):
            self._bytes, self._at = os.urandom(POOL), 0
        taken = self._bytes[self._at : self._at + count]
        self._at += count
        return taken


_pool = _Pool()
os.register_at_fork(after_in_child=_pool.forget)


def fresh_id() -> str:
    """32 hexadecimal digits that nobody else has."""
    return _pool.take(16).hex()


def fresh_room() -> int:
    """A bootstrap room that no other request has, of 62 bits: SGLang adds small offsets to it for `n` > 1."""
    return int.from_bytes(_pool.take(8), "little") >> 2
