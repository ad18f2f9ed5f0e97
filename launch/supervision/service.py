"""One service of a launch: a server or the router."""

from dataclasses import dataclass, field
from typing import Literal

from launch.machine.ports import LOOPBACK
from launch.planning.plan import ServerPlan
from launch.processes.base import Process
from router.http_client.origin import Origin

State = Literal["waiting", "starting", "ready", "dead", "stopped"]
ROUTER = "router"


@dataclass
class Service:
    """A service and its state. Memory is in bytes; times are in seconds, points in time on the monotonic clock."""

    name: str
    role: str
    port: int
    device: str
    """`CPU`, or `GPU` with the indexes."""
    state: State = "waiting"
    process: Process | None = None
    started_at: float | None = None
    ready_at: float | None = None
    start_seconds: float | None = None
    memory_bytes: int | None = None
    gpu_bytes: int | None = None
    host: str = LOOPBACK
    restarts: int = 0
    given_up: bool = False
    """Whether it failed to start so often that it is not started any more."""
    origin: Origin = field(init=False)

    def __post_init__(self) -> None:
        self.origin = Origin(f"{self.host}:{self.port}")


def server_service(server: ServerPlan) -> Service:
    """The service for a planned server, not started yet."""
    device = "GPU " + ",".join(map(str, server.gpus)) if server.gpus else "CPU"
    role = f"{server.role}, vLLM" if server.model.engine == "vllm" else server.role
    return Service(server.name, role, server.port, device, host=server.host)


def router_service(port: int) -> Service:
    """The service for the router, not started yet."""
    return Service(ROUTER, ROUTER, port, "CPU")
