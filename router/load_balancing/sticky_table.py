"""Which workers a routing key was given to, for a bounded number of keys and a bounded time."""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

MAX_HOMES = 2  # of a key: its worker, and the one that stood in for it last
EXPIRED_AT_ONCE = 16  # keys that one call forgets, so that none takes long


@dataclass(slots=True)
class _Entry:
    """The workers of a key, by address, the oldest first; and when it was last asked for."""

    homes: tuple[str, ...]
    used_at: float


class StickyTable:
    """Routing keys and their workers' addresses. A key is kept as a digest: about 300 bytes, however long it is.

    Args:
        max_keys: Keys that are remembered; the least recently used go first.
        max_idle_secs: Seconds after which an unused key is forgotten.
        clock: The time in seconds.
    """

    def __init__(self, max_keys: int, max_idle_secs: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_keys = max_keys
        self._max_idle_secs = max_idle_secs
        self._clock = clock
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()  # the least recently used first
        self._keys_at: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def homes(self, model: str, key: bytes) -> tuple[str, ...]:
        """The addresses that a key was given to, its own first; empty for a new or forgotten key."""
        now = self._clock()
        self._expire(now)
        digest = _digest(model, key)
        entry = self._entries.get(digest)
        if entry is None:
            return ()
        if self._is_idle(entry, now):
            self._forget(digest)
            return ()
        entry.used_at = now
        self._entries.move_to_end(digest)
        return entry.homes

    def assign(self, model: str, key: bytes, url: str) -> None:
        """Give a key to a worker; the one before may have it back."""
        digest = _digest(model, key)
        entry = self._entries.pop(digest, None)
        homes = () if entry is None else entry.homes
        if homes:
            self._leave(homes[-1])
        self._entries[digest] = _Entry((*homes, url)[-MAX_HOMES:], self._clock())
        self._keys_at[url] += 1
        if len(self._entries) > self._max_keys:
            self._forget(next(iter(self._entries)))

    def keys_at(self, url: str) -> int:
        """How many keys were last given to the worker with this address."""
        return self._keys_at[url]

    def keys_by_worker(self) -> dict[str, int]:
        """How many keys each worker has now, by address; those without one are left out."""
        return dict(self._keys_at)

    def _expire(self, now: float) -> None:
        for _ in range(EXPIRED_AT_ONCE):
            oldest = next(iter(self._entries), None)
            if oldest is None or not self._is_idle(self._entries[oldest], now):
                return
            self._forget(oldest)

    def _is_idle(self, entry: _Entry, now: float) -> bool:
        return now - entry.used_at >= self._max_idle_secs

    def _forget(self, digest: bytes) -> None:
        self._leave(self._entries.pop(digest).homes[-1])

    def _leave(self, url: str) -> None:
        self._keys_at[url] -= 1
        if not self._keys_at[url]:
            del self._keys_at[url]


def _digest(model: str, key: bytes) -> bytes:
    name = model.encode("utf-8", "surrogatepass")
    return blake2b(len(name).to_bytes(8, "little") + name + key, digest_size=16).digest()
