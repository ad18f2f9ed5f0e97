"""Connects a benchmark to a running pair, found through its router."""

import argparse
import json
import sys

from router.dispatch.dispatcher import Dispatcher
from router.errors import NoWorker, RouterError
from router.http_client.origin import Origin
from router.load_balancing import POLICIES, Policy
from router.worker_selection.selector import WorkerSelector
from router.workers.registry import Registry
from router.workers.worker import Role, Worker


async def pair_of_router(router: str, model: str | None) -> Registry:
    """A healthy prefill and decode server of a router, for direct requests; raises `NoWorker` when there is none."""
    origin = Origin(router)
    async with await origin.request("GET", "/workers") as response:
        workers = json.loads(await response.read())["workers"]
    origin.close()
    pair = []
    roles: tuple[Role, ...] = ("prefill", "decode")
    for role in roles:
        candidates = [w for w in workers if w["role"] == role and w["healthy"] and model in (None, w["model"])]
        if not candidates:
            raise NoWorker(f"{router} has no healthy {role} server of {model or 'any model'}.")
        model = candidates[0]["model"]
        pair.append(Worker(candidates[0]["url"], role, candidates[0]["bootstrap_port"]))
    registry = Registry(pair)
    await registry.probe()
    for role in roles:
        registry.usable(str(model), role)
    return registry


async def open_pair(options: argparse.Namespace, command: str) -> Dispatcher | None:
    """A dispatcher for the pair that a command's options name; prints why and returns None when there is none."""
    try:
        registry = await pair_of_router(options.router, options.model)
    except RouterError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return None
    policies: dict[Role, Policy] = {"prefill": POLICIES["random"](), "decode": POLICIES["random"]()}
    return Dispatcher(WorkerSelector(registry, policies))


async def close_pair(dispatcher: Dispatcher) -> None:
    """Abort requests in flight, and close all connections."""
    await dispatcher.close()
    dispatcher.registry.close()
