"""Starts the routers under test, each by its own command line."""

import http.client
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from router.bench.errors import BenchError
from router.bench.peers import PEERS
from router.bench.processes import Process, free_port, running

READY_TIMEOUT = 60.0  # seconds
PROBE_INTERVAL = "60"  # seconds; sglang-router's default, for both
# sglang-router asks Hugging Face for its workers' tokenizers: sent to a closed port of this machine.
CLOSED_PORT = "http://127.0.0.1:9"
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": CLOSED_PORT} | dict.fromkeys(
    ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"), CLOSED_PORT
)
NO_PROXY = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}


@dataclass(frozen=True)
class Target:
    """An address to measure; `process` is None for the fake decode server."""

    name: str
    url: str
    process: Process | None = None


def pair_arguments(prefill: str, decode: str) -> list[str]:
    """The flags, the same of all routers, for a pair of servers."""
    return ["--pd-disaggregation", "--prefill", prefill, "8998", "--decode", decode]


def router_command(servers: Sequence[str], port: int, *flags: str) -> list[str]:
    """The command line of this router, with the flags for its servers and further ones."""
    arguments = _common_arguments(servers, port)
    return [sys.executable, "-m", "router", *arguments, "--worker-probe-interval", PROBE_INTERVAL, *flags]


def peer_command(peer: str, python: str, servers: Sequence[str], port: int, *flags: str) -> list[str]:
    """The command line of one of `PEERS` in the environment of `python`, with further flags."""
    metrics = ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
    return [python, "-m", PEERS[peer].module, *_common_arguments(servers, port), *metrics, *flags]


def _common_arguments(servers: Sequence[str], port: int) -> list[str]:
    # Errors only: writing a log line for each request would be measured too.
    rest = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    return [*servers, *rest]


@contextmanager
def running_router(
    name: str, command: list[str], port: int, folder: Path, *, model: str | None = None
) -> Iterator[Target]:
    """Run a router while in the context; on entry it has answered one request, to `model` where it has several.

    Raises:
        BenchError: The router ended, or did not answer in time.
    """
    with running(name, command, folder, OFFLINE | NO_PROXY) as process:
        _wait_until_ready(process, port, model)
        yield Target(name, f"http://127.0.0.1:{port}", process)


def _wait_until_ready(process: Process, port: int, model: str | None) -> None:
    deadline = time.monotonic() + READY_TIMEOUT
    last = "nothing"
    asked: dict[str, Any] = {"text": "x", "sampling_params": {"max_new_tokens": 1}}  # SGLang's 128 take a CPU too long
    body = orjson.dumps(asked if model is None else asked | {"model": model})
    while time.monotonic() < deadline:
        process.check_running()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("POST", "/generate", body, {"content-type": "application/json"})
            response = connection.getresponse()
            last = f"{response.status} {response.read()[:200].decode(errors='replace')}"
            if response.status == 200:
                return
        except OSError as error:
            last = str(error)
        finally:
            connection.close()
        time.sleep(0.1)
    raise BenchError(f"{process.name} answered no request within {READY_TIMEOUT:g} s; its last words: {last}")
