"""Readiness checks: whether a server answers, and whether it runs the overlay."""

import asyncio
import time
from collections.abc import Callable

import orjson

from launch.errors import LaunchError
from launch.supervision.server_client import get_json
from router.errors import RouterError
from router.http_client.origin import Origin

POLL_SECONDS = 0.25
POLL_TIMEOUT_SECONDS = 5.0


async def wait_until_ready(origin: Origin, path: str, check_alive: Callable[[], None], *, seconds: float) -> None:
    """Poll until a GET of `path` is answered with 200.

    Args:
        origin: The server's address.
        path: What a server that is ready answers.
        check_alive: Called before each poll; what it raises ends the wait.
        seconds: How long to wait.

    Raises:
        TimeoutError: The server was not ready in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        check_alive()
        if time.monotonic() > deadline:
            raise TimeoutError
        try:
            await get_json(origin, path, timeout=POLL_TIMEOUT_SECONDS)
        except (RouterError, orjson.JSONDecodeError):
            await asyncio.sleep(POLL_SECONDS)
        else:
            return


async def check_overlay(origin: Origin, name: str) -> None:
    """Raise `LaunchError` unless a server runs the overlay, in both of its processes."""
    server_info = await get_json(origin, "/server_info")
    overlay = (server_info.get("internal_states") or [{}])[0].get("sglang_ext")
    if overlay is None:
        raise LaunchError(
            f"{name} runs without the sglang_ext overlay; install faster-moa in SGLang's environment and "
            "leave SGLANG_PLUGINS unset or let it name faster_moa."
        )
    missing = {"scheduler", "tokenizer"} - overlay["processes"].keys()
    if missing:
        raise LaunchError(f"the overlay of {name} is not active in its {missing.pop()} process; see its log.")
