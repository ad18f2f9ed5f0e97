"""Random ids and bootstrap rooms, from the system's random numbers.

Not from `random`: a program that seeds it would repeat its bootstrap rooms, and SGLang hangs on a room that was used
before. Many bytes are fetched at a time, because a system call for each id would be felt.
"""

import os

BUFFER_SIZE = 4096  # bytes
ID_DIGITS = 32  # hexadecimal

_ids: list[str] = []
_rooms: list[int] = []
# A forked process must not give out the same as its parent.
os.register_at_fork(after_in_child=_ids.clear)
os.register_at_fork(after_in_child=_rooms.clear)


def new_id() -> str:
    """A unique id of 32 hexadecimal digits."""
    if not _ids:
        digits = os.urandom(BUFFER_SIZE).hex()
        _ids.extend(digits[start : start + ID_DIGITS] for start in range(0, len(digits), ID_DIGITS))
    return _ids.pop()


def new_bootstrap_room() -> int:
    """A unique bootstrap room of 62 bits: SGLang adds small offsets to it for `n` > 1."""
    if not _rooms:
        _rooms.extend(room >> 2 for room in memoryview(os.urandom(BUFFER_SIZE)).cast("Q"))
    return _rooms.pop()
