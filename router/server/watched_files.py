"""Watches files of settings while the router runs, and takes over what they say when they change.

A file that is wrong is refused with one sentence in the log, and what was taken over before stays. One that has just
changed is left alone until the next check finds it as it is: whoever writes it may not be ready.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from router.errors import RouterError

logger = logging.getLogger(__name__)

Signature = tuple[int, int, int] | None  # inode, size and time of the last change; None where there is no file


class WatchedFile:
    """One file.

    Args:
        path: The file; a link is followed.
        known: Its signature before it was read for the first time.
        read: Reads it, in a thread; raises `RouterError` with a sentence that names the file.
        take_over: Takes over what was read; returns what that was, as the end of a sentence.
        settle: Called at each check.
    """

    def __init__(
        self,
        path: Path,
        known: Signature,
        read: Callable[[Path], Any],
        take_over: Callable[[Any], str],
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._read = read
        self._take_over = take_over
        self._settle = settle
        self._known = self._last = known

    async def check(self) -> None:
        """Take the file over if it has changed, and has not changed since the last check."""
        self._settle()
        before, self._last = self._last, await asyncio.to_thread(signature, self._path)
        if self._last == self._known or self._last != before:
            return
        self._known = self._last
        try:
            read = await asyncio.to_thread(self._read, self._path)
            told = self._take_over(read)
        except RouterError as error:
            logger.warning("%s What was read before stays.", error)
        else:
            logger.info("%s has changed: %s", self._path, told)


class WatchedFiles:
    """Checks files at an interval, in the background.

    Args:
        files: The files.
        interval: Seconds between two checks; 0 never checks.
    """

    def __init__(self, files: Sequence[WatchedFile], interval: float) -> None:
        self._files = files
        self._interval = interval
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start checking the files, unless there are none or the interval is 0."""
        if self._files and self._interval:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop checking the files."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            for file in self._files:
                try:
                    await file.check()
                except Exception:  # an unexpected error must not end the watching
                    logger.exception("unexpected error while checking a file")


def signature(path: Path) -> Signature:
    """What differs once a file has changed."""
    try:
        told = os.stat(path)
    except OSError:
        return None
    return told.st_ino, told.st_size, told.st_mtime_ns
