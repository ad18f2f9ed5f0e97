"""The error for a server process that ended by itself."""

from pathlib import Path

from launch.errors import ServerDied
from launch.processes.base import Command, Process

LAST_LINES = 15


def exit_error(command: Command, exit_code: int) -> ServerDied:
    """The error for a process that ended with an exit code; names it and ends with its log's last lines."""
    how = f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
    return ServerDied(f"{command.name} {how}; the last lines of {command.log}:\n{last_lines(command.log)}")


def raise_if_exited(process: Process) -> None:
    """Raise `ServerDied` when a process has ended."""
    if (exit_code := process.exit_code()) is not None:
        raise exit_error(process.command, exit_code)


def last_lines(log: Path, count: int = LAST_LINES) -> str:
    """The end of a log, indented."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-count:]
    except OSError:
        lines = ["(no log)"]
    return "\n".join(f"    {line}" for line in lines)
