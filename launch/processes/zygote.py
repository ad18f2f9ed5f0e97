"""The start method that forks servers from a zygote: the launcher's side of `zygote_main.py`."""

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.errors import LaunchError
from launch.processes.base import Command, Process, Starter, proportional_set_size
from launch.processes.teardown import kill_all
from router.server.processes.parent_death_signal import die_with_parent


class ForkedProcess(Process):
    """A server forked by the zygote, which is its parent and reports its exit code."""

    def __init__(
        self, command: Command, pid: int, exit_codes: dict[int, int], zygote: "asyncio.subprocess.Process"
    ) -> None:
        super().__init__(command, pid)
        self._exit_codes = exit_codes
        self._zygote = zygote

    def exit_code(self) -> int | None:
        """None while the server runs, else its exit code; a dead zygote takes its servers with it."""
        if self.pid in self._exit_codes:
            return self._exit_codes[self.pid]
        return -signal.SIGTERM if self._zygote.returncode is not None else None


class Zygote(Starter):
    """Starts servers by forking a process that has SGLang imported already.

    Raises `LaunchError` from `start` when the zygote itself cannot start.
    """

    def __init__(self, env: dict[str, str], log: Path) -> None:
        self._env = env
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._waiting: _Waiting
        self._exit_codes: dict[int, int] = {}
        self._starting = asyncio.Lock()

    async def start(self, command: Command) -> ForkedProcess:
        """Fork a server; the first call starts the zygote (about 10 s), and so does one after its death."""
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                await self._start_zygote()
        process, waiting = self._process, self._waiting
        assert process is not None
        assert process.stdin is not None
        await _wait_shielded(waiting.ready)
        if process.returncode is not None:
            raise LaunchError(self._death())
        pid: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        waiting.pids[command.name] = pid
        request = {"name": command.name, "argv": command.argv, "env": command.env, "log": str(command.log)}
        process.stdin.write(json.dumps(request).encode() + b"\n")
        try:
            await _wait_shielded(pid)
        except asyncio.CancelledError:
            # The request was sent: nobody else would know of the server that comes of it.
            await kill_all([ForkedProcess(command, await _wait_shielded(pid), self._exit_codes, process)])
            raise
        return ForkedProcess(command, pid.result(), self._exit_codes, process)

    def memory_bytes(self) -> int:
        """The zygote's share of the pages that it has in common with its servers, in bytes."""
        return 0 if self._process is None else proportional_set_size(self._process.pid)

    async def close(self) -> None:
        """End the zygote; servers it forked must have been stopped."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        _, unread = await asyncio.wait(self._readers, timeout=5)
        for reader in unread:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def _start_zygote(self) -> None:
        waiting = _Waiting(asyncio.get_running_loop().create_future())
        with self._log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "launch.processes.zygote_main",
                env={**os.environ, **self._env},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._process, self._waiting = process, waiting
        self._readers.append(asyncio.create_task(self._read_replies(process, waiting)))

    async def _read_replies(self, process: asyncio.subprocess.Process, waiting: "_Waiting") -> None:
        """Read what one process says, until its end, at which its successor may be there already."""
        assert process.stdout is not None
        async for line in process.stdout:
            self._handle_reply(json.loads(line), waiting)
        await process.wait()
        futures: list[asyncio.Future[Any]] = [waiting.ready, *waiting.pids.values()]
        for future in futures:
            if not future.done():
                future.set_exception(LaunchError(self._death()))

    def _death(self) -> str:
        return f"the process that forks the servers died; its log is {self._log}."

    def _handle_reply(self, message: dict[str, Any], waiting: "_Waiting") -> None:
        if message.get("ready"):
            waiting.ready.set_result(None)
        elif "code" in message:
            self._exit_codes[message["pid"]] = message["code"]
        else:
            self._exit_codes.pop(message["pid"], None)  # the kernel may give a number again
            waiting.pids[message["name"]].set_result(message["pid"])


@dataclass
class _Waiting:
    """What is awaited of one zygote: that it can fork, and the process ids of servers by name."""

    ready: asyncio.Future[None]
    pids: dict[str, asyncio.Future[int]] = field(default_factory=dict)


async def _wait_shielded(future: "asyncio.Future[Any]") -> Any:
    """Wait for a future that a cancelled waiter must not cancel."""
    return await asyncio.shield(future)
