"""Embeds texts in chunks, with a cache of the chunks embedded last."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from router.early_exit.hidden_states import HiddenStates

Encode = Callable[[list[str]], Tensor]


class Embedder:
    """Embeds texts in chunks; a cached chunk does not go through the model again.

    Args:
        encode: The model: n texts, none of them blank, to a float tensor [n, d].
        blank: The embedding of a blank chunk: float32 zeros [d] on the model's device.
        cache_size: Most chunks to keep; 4096 vectors of MiniLM are 6 MB.
        tokens: The same model's hidden states, token by token; None where there are none.
    """

    def __init__(
        self, encode: Encode, blank: Tensor, cache_size: int = 4096, tokens: HiddenStates | None = None
    ) -> None:
        self.tokens = tokens
        self._encode = encode
        self._blank = blank
        self._cache_size = cache_size
        self._cache: OrderedDict[bytes, Tensor] = OrderedDict()

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return self._blank.device

    def embed(self, texts: Sequence[tuple[str, int]]) -> list[Tensor]:
        """A float32 tensor [m, d] for each (text, m); all new chunks go through the model as one batch."""
        chunked = [chunks(text, m) for text, m in texts]
        vectors: dict[str, Tensor] = {}
        new: list[str] = []
        for chunk in dict.fromkeys(chunk for parts in chunked for chunk in parts):
            cached = self._cache.get(_key(chunk))
            if cached is not None:
                self._cache.move_to_end(_key(chunk))
                vectors[chunk] = cached
            elif chunk.strip():
                new.append(chunk)
            else:
                vectors[chunk] = self._blank
        if new:
            vectors.update(zip(new, self._encode(new).float().unbind(), strict=True))
        for chunk in new:
            # A copy: a row of the batch would keep the whole batch alive.
            self._cache[_key(chunk)] = vectors[chunk].clone()
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return [torch.stack([vectors[chunk] for chunk in parts]) for parts in chunked]


def chunks(text: str, m: int) -> list[str]:
    """The text in m chunks of equally many characters, give or take one."""
    return [text[len(text) * i // m : len(text) * (i + 1) // m] for i in range(m)]


def _key(chunk: str) -> bytes:
    return hashlib.blake2b(chunk.encode(), digest_size=16).digest()
