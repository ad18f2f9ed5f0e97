"""Requests to the router of an experiment."""

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from launch.errors import ConfigError
from launch.supervision.server_client import get_json
from router.errors import ConnectFailed, RouterError
from router.http_client.origin import Origin

POLL_SECONDS = 1.0
KEY_VARIABLE = "OPENAI_API_KEY"


def router_at(url: str) -> Origin:
    """A router that was started by hand; its key, if it has one, is in the variable that OpenAI's clients read."""
    origin = Origin(url)
    if key := os.environ.get(KEY_VARIABLE):
        origin.set_default_header("authorization", f"Bearer {key}")
    return origin


async def check_trees(router: Origin, trees: Iterable[str], trees_file: str) -> None:
    """Raise `ConfigError` unless the router serves all these trees."""
    try:
        told = await get_json(router, "/v1/models")
    except ConnectFailed as error:
        raise ConfigError(f"the router at {router.url} cannot be reached ({error}).") from None
    served = {model["id"] for model in told["data"]}
    missing = sorted(set(trees) - served)
    if missing:
        raise ConfigError(
            f"the router at {router.url} does not serve the tree {missing[0]!r}, or not all of its models; start it "
            f"with --trees {trees_file}."
        )


async def ask_router(
    router: Origin,
    body: dict[str, Any],
    seconds: float,
    check_alive: Callable[[], None],
) -> tuple[dict[str, Any], float]:
    """A chat completion and the seconds that it took.

    Args:
        router: The router.
        body: The request.
        seconds: The longest that it may take.
        check_alive: Called every second; may raise to end the wait.

    Raises:
        RouterError: It failed, or took too long.
    """
    started = time.perf_counter()
    task = asyncio.create_task(get_json(router, "/v1/chat/completions", body, timeout=None))
    try:
        while not (await asyncio.wait({task}, timeout=POLL_SECONDS))[0]:
            check_alive()
            if time.perf_counter() - started > seconds:
                raise RouterError(f"the run took longer than {seconds:g} s.")
        took = time.perf_counter() - started
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    answer: dict[str, Any] = task.result()
    return answer, took
