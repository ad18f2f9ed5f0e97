"""Draws questions, so that a larger sample has all of a smaller one."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Protocol, TypeVar


class HasId(Protocol):
    """What can be drawn."""

    @property
    def id(self) -> str:
        """Its name, which no other has."""


T = TypeVar("T", bound=HasId)


def sample(items: Sequence[T], limit: int | None, seed: int) -> list[T]:
    """`limit` of the items (None: all) in an order that depends on `seed` and their ids alone.

    The first 85 of a sample of 200 are the sample of 85, so that an experiment can be made larger later.
    """
    drawn = sorted(items, key=lambda each: sha256(f"{seed}:{each.id}".encode()).digest())
    return drawn if limit is None else drawn[:limit]
