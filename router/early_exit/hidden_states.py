"""The embedding model's hidden states of whole texts, one vector a token, with a cache of the texts read last."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor

Read = Callable[[list[str]], list[Tensor]]


class HiddenStates:
    """Reads texts; a cached text does not go through the model again.

    Args:
        read: The model: n texts, none of them blank, to n float tensors [tokens, h].
        blank: The hidden states of a blank text: float32 [0, h] on the model's device.
        cache_size: Most numbers to keep; 16 million float32 numbers are 64 MB.
    """

    def __init__(self, read: Read, blank: Tensor, cache_size: int = 1 << 24) -> None:
        self._read = read
        self._blank = blank
        self._cache_size = cache_size
        self._cached_numbers = 0
        self._cache: OrderedDict[bytes, Tensor] = OrderedDict()

    def of(self, texts: Sequence[str]) -> list[Tensor]:
        """A float32 tensor [tokens, h] for each text; all new texts go through the model as one batch."""
        found: dict[str, Tensor] = {}
        new: list[str] = []
        for text in dict.fromkeys(texts):
            cached = self._cache.get(_key(text))
            if cached is not None:
                self._cache.move_to_end(_key(text))
                found[text] = cached
            elif text.strip():
                new.append(text)
            else:
                found[text] = self._blank
        if new:
            for text, states in zip(new, self._read(new), strict=True):
                found[text] = self._cache[_key(text)] = states.float()
                self._cached_numbers += states.numel()
        while self._cached_numbers > self._cache_size:
            self._cached_numbers -= self._cache.popitem(last=False)[1].numel()
        return [found[text] for text in texts]


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
