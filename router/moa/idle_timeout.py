"""A timeout for each item of a stream."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")


class IdleTimeout:
    """As `asyncio.timeout` around each item of a stream, at a hundredth of its price: one timer for all items.

    Use as a context; `next` belongs to the task that entered it.

    Args:
        seconds: How long one item may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._waiting_since: float | None = None  # of the loop's clock; None between two items
        self._expired = False

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._timer = self._loop.call_later(self._seconds, self._check)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._timer.cancel()

    async def next(self, stream: AsyncIterator[T]) -> T | None:
        """The stream's next item, None at its end; raises `TimeoutError`."""
        self._waiting_since = self._loop.time()
        try:
            return await anext(stream, None)
        except asyncio.CancelledError:
            if self._expired and self._task is not None and self._task.uncancel() == 0:
                raise TimeoutError from None
            raise
        finally:
            self._waiting_since = None

    def _check(self) -> None:
        idle = 0.0 if self._waiting_since is None else self._loop.time() - self._waiting_since
        if idle < self._seconds:
            self._timer = self._loop.call_later(self._seconds - idle, self._check)
        elif self._task is not None:
            self._expired = True
            self._task.cancel()
