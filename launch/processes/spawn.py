"""The start method for fresh processes: `python -m MODULE ...`."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile

from launch.processes.base import Command, Process, Starter
from router.server.processes.parent_death_signal import die_with_parent


class SpawnedProcess(Process):
    """A child of this process."""

    def __init__(self, command: Command, popen: "subprocess.Popen[bytes]") -> None:
        super().__init__(command, popen.pid)
        self._popen = popen

    def exit_code(self) -> int | None:
        """None while the process runs; else its exit code, negative for a signal."""
        return self._popen.poll()


class Spawner(Starter):
    """Starts `python -m module` with a command's arguments.

    Args:
        module: What to run.
        python: The interpreter; None is this process's own.
        own_folder: Whether temporary files of the process go to a folder of its own, which is removed with it: for
            programs that leave sockets and files there when they are killed. Such a spawner starts one process at a
            time.
    """

    def __init__(self, module: str, python: str | None = None, *, own_folder: bool = False) -> None:
        self._module = module
        self._python = python or sys.executable
        self._own_folder = own_folder
        self._folder: str | None = None

    async def start(self, command: Command) -> SpawnedProcess:
        """Start the process in a session of its own; it gets SIGTERM when this process dies."""
        env = {**os.environ, **command.env}
        if self._own_folder:
            await self.close()
            # Short, since paths of sockets are limited.
            self._folder = tempfile.mkdtemp(prefix="moa-", dir=env.get("TMPDIR"))
            env["TMPDIR"] = self._folder
        with command.log.open("wb") as log:
            popen = subprocess.Popen(  # noqa: ASYNC220 - starting takes milliseconds, and Popen reaps by polling
                [self._python, "-m", self._module, *command.argv],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - the launcher has one thread when it starts servers
            )
        return SpawnedProcess(command, popen)

    async def close(self) -> None:
        """Remove what processes left in their folder; the spawner runs no process of its own."""
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
            self._folder = None
