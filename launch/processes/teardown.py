"""Stops processes so that nothing of them stays: no process, no port, no shared memory."""

import asyncio
import signal
import time
from collections.abc import Sequence

from launch.processes.base import Process

GRACE_SECONDS = 10.0
POLL_SECONDS = 0.1
REAP_SECONDS = 5.0  # that a killed process may take to become reapable


async def stop_all(
    processes: Sequence[Process], *, grace_seconds: float = GRACE_SECONDS, kill_now: asyncio.Event | None = None
) -> None:
    """Send SIGTERM to the leaders, then kill what is left of their sessions and remove its shared memory.

    Args:
        processes: Session leaders of servers that are ready; one that is still starting needs `kill_all`.
        grace_seconds: Time that the leaders have to exit by themselves.
        kill_now: When set, the rest of the grace period is skipped.
    """
    for process in processes:
        process.record_shared_memory()
        process.signal_leader(signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline and not (kill_now is not None and kill_now.is_set()):
        if not any(process.session_processes() for process in processes):
            break
        await asyncio.sleep(POLL_SECONDS)
    await kill_all(processes)


async def kill_all(processes: Sequence[Process]) -> None:
    """Kill the sessions and remove their shared memory.

    They are stopped by SIGSTOP first: a server that is still starting could make another file after its maps were
    read and before it is killed.
    """
    while remaining := [process for process in processes if process.session_processes()]:
        for process in remaining:
            process.signal_session(signal.SIGSTOP)
            process.record_shared_memory()
            process.signal_session(signal.SIGKILL)
        await asyncio.sleep(POLL_SECONDS)
    deadline = time.monotonic() + REAP_SECONDS
    # A killed process leaves its session a moment before it can be reaped. Its exit code is polled, for lack of an
    # event: a forked process is the zygote's child, not ours, so nothing here can be awaited that tells its end.
    while [each for each in processes if each.exit_code() is None] and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(POLL_SECONDS)
    for process in processes:
        for path in process.shared_memory:
            path.unlink(missing_ok=True)
