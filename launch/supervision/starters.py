"""How each service of a plan is started."""

from pathlib import Path

from launch.planning.plan import Plan
from launch.processes.base import Starter
from launch.processes.spawn import Spawner
from launch.processes.zygote import Zygote
from launch.supervision.service import ROUTER


def starters_of(plan: Plan, zygote_log: Path, *, fork: bool) -> dict[str, Starter]:
    """The starter of each server and of the router, by name; SGLang's servers may be forked from one process."""
    starters: dict[str, Starter] = {ROUTER: Spawner("router")}
    zygote: Zygote | None = None
    for server in plan.servers:
        if fork and server.model.engine == "sglang":
            zygote = zygote or Zygote(server.env, zygote_log)
            starters[server.name] = zygote
        else:
            program = server.program
            starters[server.name] = Spawner(program.module, server.python, own_folder=program.leaves_files)
    return starters
