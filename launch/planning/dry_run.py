"""The plan as text: what `--dry-run` prints."""

import shlex
from collections.abc import Sequence

from launch.machine.inventory import Inventory
from launch.machine.units import GIB
from launch.planning.plan import Plan, ServerPlan
from launch.planning.reserve import reserved_bytes


def render(plan: Plan, inventory: Inventory) -> str:
    """Servers, GPUs, memory, ports and the exact shell commands; the same plan gives the same text."""
    lines = [f"device: {plan.device}", f"router port: {plan.router_port}", ""]
    lines += _memory_table(plan, inventory)
    header = ("server", "where", "memory", "KV tokens", "port", "bootstrap")
    lines += ["", *_align([header, *map(_server_row, plan.servers)]), ""]
    for number, wave in enumerate(plan.waves(), start=1):
        lines.append(f"start {number}: {', '.join(server.name for server in wave)}")
    for note in plan.notes:
        lines += ["", f"note: {note}"]
    for server in plan.servers:
        lines += ["", f"# {server.name}", command_line(server)]
    return "\n".join(lines) + "\n"


def command_line(server: ServerPlan) -> str:
    """The shell command that starts a server by hand."""
    env = [f"{key}={shlex.quote(value)}" for key, value in sorted(server.env.items())]
    program = shlex.join([server.python or "python", "-m", server.program.module, *server.argv])
    return " ".join(["env", *env, program])


def _memory_table(plan: Plan, inventory: Inventory) -> list[str]:
    if not inventory.gpus:
        used = sum(server.memory_bytes for server in plan.servers)
        host = (inventory.memory_bytes, inventory.memory_free_bytes, used, inventory.memory_free_bytes - used)
        header = ("host", "total", "free", "planned", "left")
        return _align([header, (f"{inventory.cores} cores", *map(_gib, host))])
    rows = [("GPU", "name", "total", "free", "planned", "left", "of it kept back")]
    for gpu in inventory.gpus:
        used = sum(server.memory_bytes for server in plan.servers if gpu.index in server.gpus)
        sizes = (gpu.total_bytes, gpu.free_bytes, used, gpu.free_bytes - used, reserved_bytes(gpu))
        total, free, planned, left, reserved = map(_gib, sizes)
        rows.append((str(gpu.index), gpu.name, total, free, planned, left, reserved))
    return _align(rows)


def _server_row(server: ServerPlan) -> tuple[str, ...]:
    where = "GPU " + ",".join(map(str, server.gpus)) if server.gpus else "CPU"
    return (
        server.name,
        where,
        _gib(server.memory_bytes),
        str(server.kv_tokens),
        str(server.port),
        "-" if server.bootstrap_port is None else str(server.bootstrap_port),
    )


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
