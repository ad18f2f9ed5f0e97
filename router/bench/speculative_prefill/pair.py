"""What every command that measures a running pair begins with."""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from router.dispatch.dispatcher import Dispatcher
from router.errors import NoWorker, RouterError
from router.http_client.origin import Origin
from router.load_balancing import POLICIES
from router.workers.registry import Registry
from router.workers.worker import Role, Worker
from sglang_ext.versions import versions


async def pair_behind(router: str, model: str | None) -> Registry:
    """A prefill and a decode server that a router knows, asked directly from here on."""
    origin = Origin(router)
    async with await origin.request("GET", "/workers") as response:
        told = json.loads(await response.read())["workers"]
    origin.close()
    chosen = []
    roles: tuple[Role, ...] = ("prefill", "decode")
    for role in roles:
        found = [w for w in told if w["role"] == role and w["healthy"] and model in (None, w["model"])]
        if not found:
            raise NoWorker(f"{router} has no healthy {role} server of {model or 'any model'}.")
        model = found[0]["model"]
        chosen.append(Worker(found[0]["url"], role, found[0]["bootstrap_port"]))
    registry = Registry(chosen)
    await registry.probe()
    for role in roles:
        registry.usable(str(model), role)
    return registry


async def open_pair(options: argparse.Namespace, command: str) -> Dispatcher | None:
    """What sends requests to the pair of a command's options; None when there is none, having said why."""
    try:
        registry = await pair_behind(options.router, options.model)
    except RouterError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return None
    return Dispatcher(registry, POLICIES["random"](), POLICIES["random"]())


async def close_pair(dispatcher: Dispatcher) -> None:
    """End what is under way, and its connections."""
    await dispatcher.close()
    dispatcher.registry.close()


def parser_of(words: str) -> argparse.ArgumentParser:
    """The options of every command that measures a running pair."""
    parser = argparse.ArgumentParser(description=words)
    parser.add_argument("--router", metavar="URL", required=True, help="whose workers are measured")
    parser.add_argument("--model", help="one of several that the router serves")
    parser.add_argument("--machine", default="not told", help="what it runs on, for the record")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    return parser


def setting(options: argparse.Namespace, command: str) -> dict[str, Any]:
    """What a record of such a command begins with."""
    return {
        "machine": options.machine,
        "versions": versions(),
        "command": f"python -m router.bench.{command} {shlex.join(sys.argv[1:])}",
    }
