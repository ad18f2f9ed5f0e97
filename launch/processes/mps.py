"""NVIDIA's Multi-Process Service (MPS): servers that share a GPU use it at the same time.

Without it a GPU belongs to one process at a time. Each waits for the turns of the others, also where its own kernels
would leave most of the GPU idle, as those of decode do. MPS merges the processes on a GPU into one context. The price
is that what ends one of them in an error ends the others.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from launch.errors import PlanError, ServerDied
from launch.processes.base import Command, Process
from launch.processes.exit_error import exit_error, raise_if_exited, start_timeout
from launch.processes.spawn import spawn
from launch.processes.teardown import stop_all

CONTROL = "nvidia-cuda-mps-control"
START_SECONDS = 30.0
STOP_SECONDS = 5.0
"""For its own end, after which it is killed."""
ANSWER_SECONDS = 5.0
"""For one command to the daemon."""
POLL_SECONDS = 0.1


def check_mps() -> None:
    """Raise `PlanError` unless this machine has the daemon."""
    if shutil.which(CONTROL) is None:
        raise PlanError(f"mps needs {CONTROL}, which comes with NVIDIA's driver and is not here; leave mps out.")


class MpsDaemon:
    """The control daemon of one launch, with its sockets in a folder of its own: it meets no other daemon.

    It serves every GPU of the machine, and takes some 75 MiB of each while it has clients.

    Args:
        logs: Folder for its output (`daemon.log`) and its own logs, made if need be.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs.absolute()
        self._sockets: Path | None = None
        self._process: Process | None = None
        self._answered = False
        self._starting = asyncio.Lock()

    @property
    def env(self) -> dict[str, str]:
        """Variables by which a program becomes a client, the same for each daemon; empty before the first."""
        if self._sockets is None:
            return {}
        return {"CUDA_MPS_PIPE_DIRECTORY": str(self._sockets), "CUDA_MPS_LOG_DIRECTORY": str(self._logs)}

    def error(self) -> ServerDied | None:
        """Why it has ended by itself; None while it runs, and where it was stopped or not started."""
        if self._process is None or not self._answered or (exit_code := self._process.exit_code()) is None:
            return None
        return exit_error(self._process.command, exit_code)

    async def ensure_running(self) -> bool:
        """Start the daemon, also again if it has died; return once it answers, and whether it was started.

        Clients of a daemon that died cannot go on with another one.

        Raises:
            ServerDied: It ended at its start, or did not answer.
        """
        async with self._starting:
            if self._process is not None and self._answered and self._process.exit_code() is None:
                return False
            await self._end_process()
            has_clients = self._sockets is not None
            try:
                await self._start()
            except BaseException:
                await (self._end_process() if has_clients else self.stop())
                raise
            return True

    async def stop(self) -> None:
        """End the daemon and what it started, also where clients are left; harmless to call twice."""
        try:
            await self._end_process()
        finally:
            sockets, self._sockets = self._sockets, None
            if sockets is not None:
                await asyncio.to_thread(shutil.rmtree, sockets, ignore_errors=True)

    async def _end_process(self) -> None:
        process, self._process, self._answered = self._process, None, False
        if process is not None:
            grace_seconds = STOP_SECONDS if await _tell("quit", self.env) else 0.0
            await stop_all([process], grace_seconds=grace_seconds)

    async def _start(self) -> None:
        self._logs.mkdir(exist_ok=True)
        if self._sockets is None:
            self._sockets = Path(tempfile.mkdtemp(prefix="mps-"))
        for left in self._sockets.iterdir():  # by a daemon that died
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()
        # It counts the GPUs as the servers do, and each server chooses its own among all.
        env = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
        env |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **self.env}
        command = Command("mps", ("-f",), {}, self._logs / "daemon.log")
        self._process = process = spawn([CONTROL], command, env)
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await _tell("get_server_list", self.env):
                    raise_if_exited(process)
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise start_timeout(command, START_SECONDS) from None
        self._answered = True


async def _tell(order: str, env: Mapping[str, str]) -> bool:
    """Give a daemon an order, with the variables of its clients; whether it took it."""
    try:
        client = await asyncio.create_subprocess_exec(
            CONTROL,
            env=os.environ | env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await client.communicate(f"{order}\n".encode())
    except TimeoutError:
        return False
    finally:
        if client.returncode is None:
            with suppress(ProcessLookupError):
                client.kill()
            await client.wait()
    return client.returncode == 0
