"""The command line of the router over a plan's servers."""

from pathlib import Path

from launch.machine.ports import LOOPBACK
from launch.planning.plan import Plan

WORKER_PROBE_SECONDS = 2


def router_argv(plan: Plan, trees_file: Path) -> tuple[str, ...]:
    """The arguments after `python -m router`; the config's own flags come last."""
    argv = ["--host", LOOPBACK, "--port", str(plan.router_port), "--trees", str(trees_file)]
    argv += ["--worker-probe-interval", str(WORKER_PROBE_SECONDS)]
    plain = []
    for server in plan.servers:
        url = f"http://{server.host}:{server.port}"
        if server.role == "prefill":
            argv += ["--prefill", url, str(server.bootstrap_port)]
        elif server.role == "decode":
            argv += ["--decode", url]
        else:
            plain.append(url)
    if len(plain) < len(plan.servers):
        argv.insert(0, "--pd-disaggregation")
    if plain:
        argv += ["--worker-urls", *plain]
    return (*argv, *plan.router_args)
