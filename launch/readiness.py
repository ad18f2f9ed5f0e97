"""Whether servers answer, and whether they run the overlay they should."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from launch.errors import LaunchError
from router.errors import RouterError
from router.http_client.origin import Origin

POLL_SECONDS = 0.25
ANSWER_SECONDS = 30.0
LAST_LINES = 15


class ServerDied(LaunchError):
    """A server ended by itself; the message names it and ends with its log's last lines."""


def died(name: str, code: int, log: Path) -> ServerDied:
    """The error for a server that ended with an exit code."""
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return ServerDied(f"{name} {how}; the last lines of {log}:\n{last_lines(log)}")


def last_lines(log: Path, count: int = LAST_LINES) -> str:
    """The end of a log, indented."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-count:]
    except OSError:
        lines = ["(no log)"]
    return "\n".join(f"    {line}" for line in lines)


async def get_json(
    origin: Origin,
    path: str,
    body: Any = None,
    *,
    timeout: float | None = ANSWER_SECONDS,  # noqa: ASYNC109 - handed on
) -> Any:
    """A server's JSON answer; POST when there is a body. Raises `RouterError` unless it is 200."""
    raw = b"" if body is None else orjson.dumps(body)
    async with await origin.request("GET" if body is None else "POST", path, raw, timeout=timeout) as response:
        answer = await response.read()
    if response.status != 200:
        raise RouterError(f"{origin.url}{path} answered {response.status}: {answer[:500].decode(errors='replace')}")
    return orjson.loads(answer) if answer else None


async def wait_until_answers(origin: Origin, path: str, check: Callable[[], None]) -> None:
    """Poll until a GET of `path` is answered with 200; `check` is called between and may raise."""
    while True:
        check()
        try:
            await get_json(origin, path, timeout=5.0)
        except (RouterError, orjson.JSONDecodeError):
            await asyncio.sleep(POLL_SECONDS)
        else:
            return


async def check_overlay(origin: Origin, name: str) -> None:
    """Raise `LaunchError` unless a server runs the overlay, in both of its processes."""
    told = await get_json(origin, "/server_info")
    overlay = (told.get("internal_states") or [{}])[0].get("sglang_ext")
    if overlay is None:
        raise LaunchError(
            f"{name} runs without the sglang_ext overlay; install faster-moa in SGLang's environment and "
            "leave SGLANG_PLUGINS unset or let it name faster_moa."
        )
    missing = {"scheduler", "tokenizer"} - overlay["processes"].keys()
    if missing:
        raise LaunchError(f"the overlay of {name} is not active in its {missing.pop()} process; see its log.")
