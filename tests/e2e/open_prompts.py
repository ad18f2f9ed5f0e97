"""Requests of open prompts, sent to both servers of a pair by hand."""

import uuid
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import httpx

from tests.e2e.servers import RANDOM, TIMEOUT, Servers, overlay_state


def some_ids(count: int) -> list[int]:
    """Token ids that no other test sends."""
    return [RANDOM.randrange(1_000, 40_000) for _ in range(count)]


class Prompt:
    """One open prompt on one pair."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        self.id = uuid.uuid4().hex

    def append(self, ids: Sequence[int], at: int = 0, **extra: Any) -> list[httpx.Response]:
        """A segment."""
        return self._send("append", ids, at, {"max_new_tokens": 0}, **extra)

    def final(self, ids: Sequence[int], at: int, tokens: int = 8, **extra: Any) -> list[httpx.Response]:
        """The final request, greedy."""
        return self._send("final", ids, at, {"max_new_tokens": tokens, "temperature": 0}, **extra)

    def close(self) -> list[httpx.Response]:
        """The end without one."""
        return self._send("close", [0], 0, {"max_new_tokens": 0})

    def _send(
        self, op: str, ids: Sequence[int], at: int, sampling: dict[str, Any], **extra: Any
    ) -> list[httpx.Response]:
        mark = {"id": self.id, "op": op, "at": at}
        return send(self.servers, ids, {**sampling, "custom_params": {"open_prompt": mark}}, **extra)


def send(servers: Servers, ids: Sequence[int], sampling: dict[str, Any], **extra: Any) -> list[httpx.Response]:
    """One request to both servers, as the router sends it; prefill's answer and decode's."""
    with ThreadPoolExecutor(2) as pool:
        return [leg.result() for leg in submit(pool, servers, ids, sampling, **extra)]


def submit(
    pool: Executor, servers: Servers, ids: Sequence[int], sampling: dict[str, Any], **extra: Any
) -> list["Future[httpx.Response]"]:
    """As `send`, without waiting for the answers."""
    body = {
        "input_ids": list(ids),
        "sampling_params": sampling,
        "bootstrap_host": "127.0.0.1",
        "bootstrap_port": servers.bootstrap_port,
        "bootstrap_room": RANDOM.getrandbits(62),
        **extra,
    }
    return [
        pool.submit(httpx.post, f"{base}/generate", json=body, timeout=TIMEOUT)
        for base in (servers.prefill, servers.decode)
    ]


def statuses(answers: list[httpx.Response]) -> list[int]:
    """The status of each leg."""
    return [answer.status_code for answer in answers]


def counters(base: str) -> dict[str, Any]:
    """What a server tells of its open prompts."""
    told: dict[str, Any] = overlay_state(base)["open_prompts"]
    return told
