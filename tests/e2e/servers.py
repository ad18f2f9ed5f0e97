"""What the end-to-end tests know about running servers."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.idle_state import is_idle

RANDOM = random.SystemRandom()  # whoever seeds the common generator, no two requests share a room
TIMEOUT = 300.0  # for what hangs; on a slow machine an answer may take a minute
MODEL = "smol"  # what the first pair and the plain server are called


@dataclass(frozen=True)
class Servers:
    """Addresses of the running servers: a float32 pair behind a router, and one plain server."""

    router: str
    prefill: str
    decode: str
    plain: str
    bootstrap_port: int
    model: str
    prefill_log: Path
    decode_log: Path


def post(url: str, body: dict[str, Any]) -> httpx.Response:
    """POST JSON."""
    return httpx.post(url, json=body, timeout=TIMEOUT)


def generate(base: str, prompt: str | list[int] | list[str], tokens: int = 24, **extra: Any) -> Any:
    """A greedy `/generate` answer."""
    key = "input_ids" if isinstance(prompt[0], int) else "text"
    sampling = {"temperature": 0, "max_new_tokens": tokens, **extra.pop("sampling_params", {})}
    response = post(f"{base}/generate", {"model": MODEL, key: prompt, "sampling_params": sampling, **extra})
    assert response.status_code == 200, response.text
    return response.json()


def both_legs(servers: Servers, prompt: str, tokens: int = 8) -> tuple[dict[str, Any], dict[str, Any]]:
    """The prefill's and the decode's own answers to one request, dispatched by hand."""
    body = {
        "text": prompt,
        "sampling_params": {"temperature": 0, "max_new_tokens": tokens},
        "bootstrap_host": "127.0.0.1",
        "bootstrap_port": servers.bootstrap_port,
        "bootstrap_room": RANDOM.getrandbits(62),
    }
    with ThreadPoolExecutor(2) as pool:
        legs = [pool.submit(post, f"{base}/generate", body) for base in (servers.prefill, servers.decode)]
        prefill, decode = (leg.result().json() for leg in legs)
    return prefill, decode


def overlay_state(base: str) -> dict[str, Any]:
    """The overlay's part of a server's info."""
    info = httpx.get(f"{base}/server_info", timeout=TIMEOUT).json()
    state: dict[str, Any] = info["internal_states"][0]["sglang_ext"]
    return state


def is_quiet(base: str) -> bool:
    """Whether a server has no request and every KV slot is free or evictable."""
    return is_idle(overlay_state(base))


def passes(servers: Servers) -> int:
    """Forward passes that prefill has begun: one a chunk. Its log tells them at once, it itself answers between."""
    return servers.prefill_log.read_text(errors="replace").count("] Prefill batch, ")


def holdings(router: str) -> list[dict[str, Any]]:
    """What a router's `/get_server_info` tells of each worker."""
    told: list[dict[str, Any]] = httpx.get(f"{router}/get_server_info", timeout=TIMEOUT).json()["workers"]
    return told


def nothing_leaked(router: str, seconds: float = TIMEOUT) -> bool:
    """Whether soon, by a router's word, none of its workers has a request and all their KV is free or evictable."""
    return wait_for(lambda: all(worker["idle"] for worker in holdings(router)), seconds)


def wait_for(condition: Callable[[], bool], seconds: float = TIMEOUT) -> bool:
    """Poll until the condition holds; False when it never did."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return condition()


def long_text(topic: str, sentences: int = 20) -> str:
    """A prompt of some 12 tokens a sentence that no other test sends."""
    return " ".join(f"{topic} fact {i}: the number {i} squared is {i * i}." for i in range(sentences))
