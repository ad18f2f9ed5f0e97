"""The errors for a server process that ended by itself, or did not come up."""

import re
from pathlib import Path

from launch.errors import ServerDied
from launch.processes.base import Command, Process

LAST_LINES = 15
_OVERLAY_ERROR = re.compile(r"sglang_ext\.errors\.\w+: (.+)")


def exit_error(command: Command, exit_code: int) -> ServerDied:
    """The error for a process that ended with an exit code; names it and says why.

    The cause is the overlay's own sentence where there is one, else the last lines of the log.
    """
    if (sentence := overlay_sentence(command.log)) is not None:
        return ServerDied(f"{command.name} ended: {sentence.rstrip('.')}; its log is {command.log}.")
    how = f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
    return ServerDied(f"{command.name} {how}; the last lines of {command.log}:\n{last_lines(command.log)}")


def start_timeout(command: Command, seconds: float) -> ServerDied:
    """The error for a process that runs, but was not ready in time."""
    return ServerDied(
        f"{command.name} was not ready after {seconds:g} s; the last lines of {command.log}:\n{last_lines(command.log)}"
    )


def raise_if_exited(process: Process) -> None:
    """Raise `ServerDied` when a process has ended."""
    if (exit_code := process.exit_code()) is not None:
        raise exit_error(process.command, exit_code)


def overlay_sentence(log: Path) -> str | None:
    """What the overlay said when it ended a server: an error of its own, raised in one of the server's processes."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return None
    return next((found[1] for line in reversed(lines) if (found := _OVERLAY_ERROR.match(line))), None)


def last_lines(log: Path, count: int = LAST_LINES) -> str:
    """The end of a log, indented."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-count:]
    except OSError:
        lines = ["(no log)"]
    return "\n".join(f"    {line}" for line in lines)
