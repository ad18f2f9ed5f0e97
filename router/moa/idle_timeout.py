"""How long a silent server is waited for."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")


class IdleTimeout:
    """As `asyncio.timeout` around each step of a stream, at a hundredth of its price: one timer for all steps.

    Use as a context; `next` belongs to the task that entered it.

    Args:
        seconds: How long one step may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None  # the step under way began
        self._expired = False

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._timer = self._loop.call_later(self._seconds, self._look)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._timer.cancel()

    async def next(self, stream: AsyncIterator[T]) -> T | None:
        """The stream's next item, None at its end; raises `TimeoutError`."""
        self._since = self._loop.time()
        try:
            return await anext(stream, None)
        except asyncio.CancelledError:
            if self._expired and self._task is not None and self._task.uncancel() == 0:
                raise TimeoutError from None
            raise
        finally:
            self._since = None

    def _look(self) -> None:
        waited = 0.0 if self._since is None else self._loop.time() - self._since
        if waited < self._seconds:
            self._timer = self._loop.call_later(self._seconds - waited, self._look)
        elif self._task is not None:
            self._expired = True
            self._task.cancel()
