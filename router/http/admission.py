"""What a handler can do with its request's place among those that are served at once."""

from typing import Protocol


class Admission(Protocol):
    """A request's place: how many others it counts as, and whether it counts at all while it waits for another one.

    Only the task that handles the request calls these.
    """

    @property
    def at_once(self) -> int | None:
        """As how many requests at most it should count where it may do one part after the other; None for any."""

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
    """The place of a request that counts for no limit."""

    at_once = None

    async def reweigh(self, weight: int) -> None:
        """There is always room."""

    def pause(self) -> None:
        """It counts as nothing anyway."""

    async def resume(self) -> None:
        """There is always room."""


NO_LIMITS: Admission = _NoLimits()
