"""The blocks in one server's KV cache, as its own events tell, and how much of a prompt they hold.

In events a block has the server's hash and that of its parent. Here each gets a hash of all token ids up to its end,
which is computed for a whole prompt at once: so a prompt is looked up without a step for each block.
"""

import secrets
import time
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

MAX_BLOCKS = 2**18  # that are kept of one server, in some 60 MB; further ones are not known
MAX_TOKENS = 2**18  # of a prompt that can be found; blocks further on are left out
SILENCE_SECS = 30.0  # without an event after a request was sent there, after which events count no more
_MASK = 2**64 - 1

# A token at each position counts with a factor of its own, drawn anew in each process.
_draws = np.random.default_rng(secrets.randbits(64))
_factors: NDArray[np.uint64] = np.zeros(0, np.uint64)
_factor_list: list[int] = []


def _grow_factors(length: int) -> None:
    global _factors  # noqa: PLW0603 - drawn as prompts get longer
    if length > len(_factors):
        size = min(max(2 * len(_factors), length, 4_096), max(MAX_TOKENS, length))
        more = _draws.integers(0, 2**64, size - len(_factors), np.uint64)
        _factors = np.concatenate([_factors, more])
        _factor_list.extend(more.tolist())


class TokenPath:
    """A prompt's token ids, with a hash of each of their beginnings."""

    def __init__(self, ids: NDArray[np.uint32]) -> None:
        ids = ids[:MAX_TOKENS]
        _grow_factors(len(ids))
        self.length = len(ids)
        self._sums = np.cumsum((ids.astype(np.uint64) + np.uint64(1)) * _factors[: len(ids)], dtype=np.uint64)

    def key(self, length: int) -> int:
        """The hash of the first tokens, as many as `length`, one at least."""
        return int(self._sums[length - 1])


class KvBlocks:
    """The blocks that one server says it holds, in any of its memories.

    Args:
        block_size: Tokens of a block.
        max_blocks: The most that are kept.
        clock: Tells seconds.

    Attributes:
        complete: Whether all that the server holds is here: else its events were not heard from the beginning on.
    """

    def __init__(
        self, block_size: int, max_blocks: int = MAX_BLOCKS, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._block_size = block_size
        self._max_blocks = max_blocks
        self._clock = clock
        # By the server's hash: the hash of the tokens up to its end, its end, and the memories that hold it.
        self._blocks: dict[Hashable, tuple[int, int, frozenset[str | None]]] = {}
        self._keys: set[int] = set()
        self._media: dict[frozenset[str | None], frozenset[str | None]] = {}  # each set of memories once
        self._asked_at: float | None = None  # the first request since the last event
        self.complete = False

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def trusted(self) -> bool:
        """Whether its events still come: a server that serves requests and tells nothing of them does not send any."""
        return self._asked_at is None or self._clock() - self._asked_at < SILENCE_SECS

    def asked(self) -> None:
        """A request is sent to the server, which will tell of new blocks."""
        if self._asked_at is None:
            self._asked_at = self._clock()

    def heard(self) -> None:
        """An event came."""
        self._asked_at = None

    def match(self, path: TokenPath) -> int:
        """How many of a prompt's tokens, from the first on, are in blocks that are here."""
        size, low, high = self._block_size, 0, path.length // self._block_size
        while low < high:  # a block is here only with those before it
            middle = (low + high + 1) // 2
            if path.key(middle * size) in self._keys:
                low = middle
            else:
                high = middle - 1
        return low * size

    def store(
        self, hashes: Sequence[Hashable], parent: Hashable | None, ids: Sequence[int], medium: str | None = None
    ) -> None:
        """Add blocks that follow each other, unless their parent is unknown: `ids` are the tokens of all of them."""
        before = (0, 0) if parent is None else self._blocks.get(parent, (0, 0, None))[:2]
        if parent is not None and parent not in self._blocks:
            return
        key, end = before
        size = len(ids) // len(hashes) if hashes else 0
        if size != self._block_size or end + len(ids) > MAX_TOKENS:
            return
        _grow_factors(end + len(ids))
        for number, block in enumerate(hashes):
            if len(self._blocks) >= self._max_blocks and block not in self._blocks:
                # Those that are here stay: the oldest are what many prompts begin with.
                self.complete = False
                return
            for token in ids[number * size : (number + 1) * size]:
                key += (token + 1) * _factor_list[end]
                end += 1
            key &= _MASK
            known = self._blocks.get(block)
            media = frozenset((medium,)) if known is None else known[2] | {medium}
            self._blocks[block] = key, end, self._media.setdefault(media, media)
            self._keys.add(key)

    def remove(self, hashes: Sequence[Hashable], medium: str | None = None) -> None:
        """Take blocks out of one of the server's memories; those in none are gone."""
        for block in hashes:
            known = self._blocks.get(block)
            if known is None:
                continue
            key, end, media = known
            if left := media - {medium}:
                self._blocks[block] = key, end, self._media.setdefault(left, left)
            else:
                self._forget(block)

    def clear(self) -> None:
        """The server emptied its cache: what it holds from now on is known."""
        self._blocks.clear()
        self._keys.clear()
        self.complete = True

    def lose(self) -> None:
        """Events were missed: forget all, since some of it may be gone."""
        self._blocks.clear()
        self._keys.clear()
        self.complete = False

    def _forget(self, block: Hashable) -> None:
        key, _, _ = self._blocks.pop(block)
        self._keys.discard(key)
