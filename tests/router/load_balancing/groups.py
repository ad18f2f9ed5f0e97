"""Workers and contexts for tests of policies."""

from router.load_balancing import RoutingContext
from router.workers.server_load import ServerLoad
from router.workers.worker import Worker


def workers(*loads: int, model: str = "m") -> list[Worker]:
    """Prefill servers with these loads."""
    group = [
        Worker(f"http://127.0.0.1:{port}", "prefill", 1, models=(model,), healthy=True)
        for port in range(1, len(loads) + 1)
    ]
    for worker, load in zip(group, loads, strict=True):
        worker.load.requests = load
    return group


def keyed(key: str, model: str = "m") -> RoutingContext:
    """A request of a session."""
    return RoutingContext(routing_key=key.encode(), model=model)


def report(
    requests: int, *, own: int = 0, waiting: int = 0, tokens: int | None = None, usage: float | None = None
) -> ServerLoad:
    """What a server said of its load."""
    return ServerLoad(requests, waiting, tokens, usage, own, 0.0)
