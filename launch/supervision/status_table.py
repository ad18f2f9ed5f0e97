"""The live table of services: redrawn in place on a terminal, one line for each change elsewhere."""

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from launch.machine.units import GIB
from launch.supervision.service import Service

COLOURS = {"waiting": "dim", "starting": "yellow", "ready": "green", "dead": "red", "stopped": "dim"}


class StatusTable:
    """Shows the services of a launch while it is entered as a context manager."""

    def __init__(self, console: Console) -> None:
        self.services: Iterable[Service] = ()
        self._console = console
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=2, transient=True)
        self._printed_states: dict[str, str] = {}

    def on_change(self) -> None:
        """Show a change of state."""
        if self._console.is_terminal:
            return
        for service in self.services:
            if self._printed_states.get(service.name, "waiting") != service.state:
                self._printed_states[service.name] = service.state
                self._console.print(_line(service), highlight=False)

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
        for service in self.services:
            table.add_row(
                service.name,
                service.role,
                service.device,
                str(service.port),
                f"[{COLOURS[service.state]}]{service.state}[/]"
                + (f" ({service.restarts})" if service.restarts else ""),
                "" if service.start_seconds is None else f"{service.start_seconds:.1f}",
                "" if service.memory_bytes is None else f"{service.memory_bytes / GIB:.2f}",
                "" if service.gpu_bytes is None else f"{service.gpu_bytes / GIB:.1f}",
            )
        return table


def _line(service: Service) -> str:
    details = ""
    if service.state == "ready" and service.start_seconds is not None:
        gpu = "" if service.gpu_bytes is None else f", {service.gpu_bytes / GIB:.1f} GiB of GPU memory"
        details = f" after {service.start_seconds:.1f} s, {(service.memory_bytes or 0) / GIB:.2f} GiB{gpu}"
    return f"{service.name} on {service.device}, port {service.port}: {service.state}{details}"
