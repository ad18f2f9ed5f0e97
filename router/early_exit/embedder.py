"""Texts as vectors: an embedding model, and a memory of the texts it has seen lately."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Encode = Callable[[list[str]], Tensor]


class Embedder:
    """Embeds texts in chunks; a chunk that is remembered does not go through the model again.

    Args:
        encode: The model: texts, none of them blank, to float tensors [texts, d].
        nothing: What a blank chunk is: float32 zeros [d] on the model's device.
        remembered: Most chunks to keep; 4096 vectors of MiniLM are 6 MB.
    """

    def __init__(self, encode: Encode, nothing: Tensor, remembered: int = 4096) -> None:
        self._encode = encode
        self._nothing = nothing
        self._most = remembered
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()

    def embed(self, texts: Sequence[tuple[str, int]]) -> list[Tensor]:
        """Each (text, m) as a float32 [m, d]; all chunks that are new go through the model as one batch."""
        pieces = [chunks(text, m) for text, m in texts]
        vectors: dict[str, Tensor] = {}
        new: list[str] = []
        for piece in dict.fromkeys(piece for parts in pieces for piece in parts):
            kept = self._kept.get(_key(piece))
            if kept is not None:
                self._kept.move_to_end(_key(piece))
                vectors[piece] = kept
            elif piece.strip():
                new.append(piece)
            else:
                vectors[piece] = self._nothing
        if new:
            vectors.update(zip(new, self._encode(new).float().unbind(), strict=True))
        for piece in new:
            # A copy: a row of the batch would keep the whole batch alive.
            self._kept[_key(piece)] = vectors[piece].clone()
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return [torch.stack([vectors[piece] for piece in parts]) for parts in pieces]


def chunks(text: str, m: int) -> list[str]:
    """The text in m pieces of equally many characters, give or take one."""
    return [text[len(text) * i // m : len(text) * (i + 1) // m] for i in range(m)]


def _key(piece: str) -> bytes:
    return hashlib.blake2b(piece.encode(), digest_size=16).digest()
