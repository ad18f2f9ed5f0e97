"""The live table of servers: redrawn in place on a terminal, a line a change elsewhere."""

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from launch.supervisor import Member

COLOURS = {"waiting": "dim", "starting": "yellow", "ready": "green", "dead": "red", "stopped": "dim"}
GIB = 1 << 30


class Status:
    """Shows the members of a launch while used as a context."""

    def __init__(self, console: Console) -> None:
        self.members: Iterable[Member] = ()
        self._console = console
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=2, transient=True)
        self._shown: dict[str, str] = {}

    def changed(self) -> None:
        """Show a change of state."""
        if self._console.is_terminal:
            return
        for member in self.members:
            if self._shown.get(member.name, "waiting") != member.state:
                self._shown[member.name] = member.state
                self._console.print(_line(member), highlight=False)

    def print_table(self) -> None:
        """Print the table once, to stay."""
        self._console.print(self._table())

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for title in ("server", "role", "where", "port", "state", "start s", "memory GiB", "GPU GiB"):
            table.add_column(title, justify="right" if title[-1] in "sB" and title != "status" else "left")
        for member in self.members:
            table.add_row(
                member.name,
                member.role,
                member.where,
                str(member.port),
                f"[{COLOURS[member.state]}]{member.state}[/]" + (f" ({member.restarts})" if member.restarts else ""),
                "" if member.start_seconds is None else f"{member.start_seconds:.1f}",
                "" if member.memory_bytes is None else f"{member.memory_bytes / GIB:.2f}",
                "" if member.gpu_bytes is None else f"{member.gpu_bytes / GIB:.1f}",
            )
        return table


def _line(member: Member) -> str:
    details = ""
    if member.state == "ready" and member.start_seconds is not None:
        gpu = "" if member.gpu_bytes is None else f", {member.gpu_bytes / GIB:.1f} GiB of GPU memory"
        details = f" after {member.start_seconds:.1f} s, {(member.memory_bytes or 0) / GIB:.2f} GiB{gpu}"
    return f"{member.name} on {member.where}, port {member.port}: {member.state}{details}"
