"""NVIDIA's Multi-Process Service (MPS): servers that share a GPU use it at the same time.

Without it a GPU belongs to one process at a time. Each waits for the turns of the others, also where its own kernels
would leave most of the GPU idle, as those of decode do. MPS merges them into one context; the price is that a kernel
which ends in an error ends all servers on that GPU.
"""

import asyncio
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from launch.errors import PlanError
from launch.processes.base import Command, Process
from launch.processes.exit_error import raise_if_exited, start_timeout
from launch.processes.spawn import spawn
from launch.processes.teardown import kill_all

CONTROL = "nvidia-cuda-mps-control"
START_SECONDS = 30.0
ANSWER_SECONDS = 5.0
"""For one command to the daemon."""
POLL_SECONDS = 0.1


def check_mps() -> None:
    """Raise `PlanError` unless this machine has the daemon."""
    if shutil.which(CONTROL) is None:
        raise PlanError(f"mps needs {CONTROL}, which comes with NVIDIA's driver and is not here; leave mps out.")


class MpsDaemon:
    """The control daemon of one launch, with its sockets in a folder of its own: it meets no other daemon.

    Args:
        log: File that gets its output.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._folder: Path | None = None
        self._process: Process | None = None
        self._starting = asyncio.Lock()

    @property
    def env(self) -> dict[str, str]:
        """Variables by which a program becomes a client; empty before the start."""
        if self._folder is None:
            return {}
        return {"CUDA_MPS_PIPE_DIRECTORY": str(self._folder), "CUDA_MPS_LOG_DIRECTORY": str(self._folder)}

    async def ensure_running(self) -> None:
        """Start the daemon, also again if it has died; return once it answers.

        Raises:
            ServerDied: It ended at its start, or did not answer.
        """
        async with self._starting:
            if self._process is not None and self._process.exit_code() is None:
                return
            await self.stop()
            # Short, since paths of sockets are limited.
            self._folder = Path(tempfile.mkdtemp(prefix="mps-"))
            # It serves every GPU, in the order in which the servers count them.
            env = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
            env |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **self.env}
            command = Command("mps", ("-f",), env, self._log)
            self._process = process = spawn([CONTROL], command, env)
            try:
                async with asyncio.timeout(START_SECONDS):
                    while not await self._tell("get_server_list"):
                        raise_if_exited(process)
                        await asyncio.sleep(POLL_SECONDS)
            except TimeoutError:
                raise start_timeout(command, START_SECONDS) from None

    async def stop(self) -> None:
        """End the daemon and what it started, once its clients have ended; harmless to call twice."""
        if self._process is not None:
            await self._tell("quit")
            await kill_all([self._process])
            self._process = None
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
            self._folder = None

    async def _tell(self, order: str) -> bool:
        """Give the daemon an order; whether it took it."""
        client = await asyncio.create_subprocess_exec(
            CONTROL,
            env=os.environ | self.env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await client.communicate(f"{order}\n".encode())
        except TimeoutError:
            with suppress(ProcessLookupError):
                client.kill()
            await client.wait()
        return client.returncode == 0
