"""Stopping processes so that nothing of them stays: no process, no port, no shared memory."""

import asyncio
import signal
import time
from collections.abc import Sequence

from launch.processes.base import Process

GRACE_SECONDS = 10.0
POLL_SECONDS = 0.1


async def stop_all(
    processes: Sequence[Process], *, grace: float = GRACE_SECONDS, hurry: asyncio.Event | None = None
) -> None:
    """Ask the leaders to stop, then kill what is left of their sessions and remove its shared memory.

    Args:
        processes: Leaders of sessions that are up; one that still starts belongs to `kill_all`.
        grace: Seconds the leaders have to end by themselves.
        hurry: When set, the rest of the grace is skipped.
    """
    for process in processes:
        process.note_shared_memory()
        process.signal_leader(signal.SIGTERM)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and not (hurry is not None and hurry.is_set()):
        if not any(process.members() for process in processes):
            break
        await asyncio.sleep(POLL_SECONDS)
    await kill_all(processes)


async def kill_all(processes: Sequence[Process]) -> None:
    """Kill the sessions and remove their shared memory.

    They are frozen first: a server that still starts could make another file between the look at
    what it maps and its end.
    """
    while left := [process for process in processes if process.members()]:
        for process in left:
            process.signal_all(signal.SIGSTOP)
            process.note_shared_memory()
            process.signal_all(signal.SIGKILL)
        await asyncio.sleep(POLL_SECONDS)
    for process in processes:
        process.exit_code()  # reaps it
        for path in process.shared_memory:
            path.unlink(missing_ok=True)
