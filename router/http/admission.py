"""What a handler can do with its request's weight among those that are served at once."""

from typing import Protocol


class Admission(Protocol):
    """How many requests a request counts as, and whether it counts at all while it waits for another one.

    Only the task that handles the request calls these.
    """

    @property
    def max_weight(self) -> int | None:
        """The most that it should count as, where it may do one part after the other; None for any number."""

    async def reweigh(self, weight: int) -> None:
        """Count as so many requests from now on, and wait until there is room for them.

        Raises:
            TimedOutInQueue: There was none in time.
        """

    def pause(self) -> None:
        """Count as nothing while the request waits for another client's request."""

    async def resume(self) -> None:
        """Count again after `pause`, and wait for room; no effect without it. Raises as `reweigh`."""


class _NoLimits:
    """Of a request that counts for no limit."""

    max_weight = None

    async def reweigh(self, weight: int) -> None:
        """There is always room."""

    def pause(self) -> None:
        """It counts as nothing anyway."""

    async def resume(self) -> None:
        """There is always room."""


NO_LIMITS: Admission = _NoLimits()
