"""Clients and their rights."""

from dataclasses import dataclass
from typing import Literal, get_args

Right = Literal["data", "runs", "admin"]
ALL_RIGHTS: frozenset[Right] = frozenset(get_args(Right))


@dataclass(frozen=True)
class Client:
    """Who has an API key.

    Attributes:
        name: Its name, which is also its namespace: clients never meet in runs of the same name.
        rights: What it may do: use the models (`data`), look at its own runs (`runs`), or everything (`admin`).
        max_concurrent_requests: Its requests at once; None for no limit of its own.
        requests_per_second: Its requests a second; None for no limit of its own.
    """

    name: str
    rights: frozenset[Right]
    max_concurrent_requests: int | None = None
    requests_per_second: float | None = None

    def __post_init__(self) -> None:
        if "admin" in self.rights:
            object.__setattr__(self, "rights", ALL_RIGHTS)

    @property
    def limited(self) -> bool:
        """Whether it has a limit of its own."""
        return self.max_concurrent_requests is not None or self.requests_per_second is not None


ANYBODY = Client("", ALL_RIGHTS)  # where there are no keys
