"""Fresh processes: of any program (`spawn`), and the start method for `python -m MODULE ...` (`Spawner`)."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

from launch.processes.base import Command, Process, Starter
from router.server.processes.parent_death_signal import start_child


class SpawnedProcess(Process):
    """A child of this process."""

    def __init__(self, command: Command, popen: "subprocess.Popen[bytes]") -> None:
        super().__init__(command, popen.pid)
        self._popen = popen

    def exit_code(self) -> int | None:
        """None while the process runs; else its exit code, negative for a signal."""
        return self._popen.poll()


def spawn(program: Sequence[str], command: Command, env: Mapping[str, str]) -> SpawnedProcess:
    """Start a program with a command's arguments, in a session of its own; it gets SIGTERM when this process dies.

    Args:
        program: The program, with the arguments that come before the command's.
        command: Its arguments, and the log that gets its output.
        env: The whole environment.
    """
    with command.log.open("wb") as log:
        popen = start_child(
            [*program, *command.argv],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return SpawnedProcess(command, popen)


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
        return spawn([self._python, "-m", self._module], command, env)

    async def close(self) -> None:
        """Remove what processes left in their folder; the spawner runs no process of its own."""
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
            self._folder = None
