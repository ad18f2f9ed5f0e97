"""Cancels the work for a request when its client disconnects, or when its time is over."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any
from weakref import WeakKeyDictionary

from router.http.asgi import AsgiRequest, ClientGone

WATCH_DELAY = 0.05  # seconds before a client is watched: most requests are over before


class _DisconnectWatch:
    """Cancels a task when the client of its request disconnects, or after `timeout` seconds."""

    def __init__(self, task: asyncio.Task[Any], request: AsgiRequest, timeout: float | None) -> None:
        self.reason: ClientGone | TimeoutError | None = None  # why the task was cancelled
        self._watched_task = task
        self._request = request
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._watcher: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Watch from now on."""
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        try:
            async with asyncio.timeout(None if self._deadline is None else self._deadline - time.monotonic()):
                await self._request.wait_for_disconnect()
            reason: ClientGone | TimeoutError = ClientGone()
        except TimeoutError:
            reason = TimeoutError()  # a new one: the caught one has this frame in its traceback, a reference cycle
        # ASGI reports a complete response and a lost client alike.
        if not self._request.response_complete:
            self.reason = reason
            self._request.timed_out = isinstance(reason, TimeoutError)
            self._watched_task.cancel()

    def stop(self) -> asyncio.Task[None] | None:
        """Stop watching; returns the cancelled watcher, to be awaited, or None when there is nothing to wait for."""
        watcher, self._watcher = self._watcher, None  # its traceback refers to this object: a reference cycle
        if watcher is None or watcher.done():
            return None
        watcher.cancel()
        return watcher


class _DelayedStarts:
    """Starts watches between `WATCH_DELAY` and twice that after they were added.

    One timer serves all of an event loop: a timer set and cancelled for each would be most of a short request's cost.
    """

    def __init__(self) -> None:
        self._new: set[_DisconnectWatch] = set()  # since the last tick
        self._due_next: set[_DisconnectWatch] = set()  # started at the next tick
        self._ticking = False

    def add(self, watch: _DisconnectWatch) -> None:
        """Start a watch later, unless it is removed before."""
        self._new.add(watch)
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(WATCH_DELAY, self._tick)

    def remove(self, watch: _DisconnectWatch) -> None:
        """Its request is over. Frees its memory now, rather than that of hundreds of watches within one tick."""
        self._new.discard(watch)
        self._due_next.discard(watch)

    def _tick(self) -> None:
        due, self._due_next, self._new = self._due_next, self._new, set()
        for watch in due:
            watch.start()
        self._ticking = bool(self._due_next)
        if self._ticking:
            asyncio.get_running_loop().call_later(WATCH_DELAY, self._tick)


_delayed_starts: WeakKeyDictionary[asyncio.AbstractEventLoop, _DelayedStarts] = WeakKeyDictionary()


async def while_connected(
    request: AsgiRequest,
    work: Awaitable[None],
    timeout: float | None = None,  # noqa: ASYNC109 - the watch raises it
) -> None:
    """Await `work`, cancelled when the client disconnects; call only after `AsgiRequest.body`.

    The watch and the work have both ended when this returns. Work that goes on after the response's last chunk is not
    cancelled.

    Args:
        request: The client's request.
        work: What answers it.
        timeout: Seconds until the work is cancelled; None for no limit.

    Raises:
        ClientGone: The client disconnected.
        TimeoutError: The time was over.
    """
    task = asyncio.current_task()
    assert task is not None
    cancels_before = task.cancelling()
    watch = _DisconnectWatch(task, request, timeout)
    loop = task.get_loop()
    delayed_starts = _delayed_starts.get(loop) or _delayed_starts.setdefault(loop, _DelayedStarts())
    if timeout is None or timeout > 2 * WATCH_DELAY:
        delayed_starts.add(watch)
    else:
        watch.start()
    try:
        await work
    finally:
        delayed_starts.remove(watch)
        watcher = watch.stop()
        if watcher is not None:
            await asyncio.gather(watcher, return_exceptions=True)
        reason, watch.reason = watch.reason, None
        try:
            if reason is not None and task.uncancel() <= cancels_before:
                raise reason from None
        finally:
            del reason  # its traceback refers to this frame: a reference cycle
