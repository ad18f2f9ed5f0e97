"""The routers under test, each started as its users start it."""

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from router.bench.errors import BenchError
from router.bench.processes import Process, free_port, running

READY = 60.0  # seconds
PROBE_INTERVAL = "60"  # seconds; the Rust router's default, for both
# The Rust router asks Hugging Face for its workers' tokenizers: sent to a closed port of this machine.
NOWHERE = "http://127.0.0.1:9"
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": NOWHERE} | dict.fromkeys(
    ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"), NOWHERE
)
BARE = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}


@dataclass(frozen=True)
class Target:
    """An address to measure; `process` is None for the fake decode server itself."""

    name: str
    url: str
    process: Process | None = None


def ours(prefill: str, decode: str, port: int) -> list[str]:
    """The command of this router."""
    arguments = _pair(prefill, decode, port)
    return [sys.executable, "-m", "router", *arguments, "--worker-probe-interval", PROBE_INTERVAL]


def rust(python: str, prefill: str, decode: str, port: int) -> list[str]:
    """The command of sglang-router in the environment of `python`."""
    metrics = ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
    arguments = _pair(prefill, decode, port)
    return [python, "-m", "sglang_router.launch_router", *arguments, *metrics]


def _pair(prefill: str, decode: str, port: int) -> list[str]:
    given = ["--pd-disaggregation", "--prefill", prefill, "8998", "--decode", decode, "--policy", "round_robin"]
    # Errors only: a line for each request would be measured too.
    return [*given, "--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]


@contextmanager
def router(name: str, command: list[str], port: int, folder: Path) -> Iterator[Target]:
    """Run a router until the block ends; it has answered one request by then.

    Raises:
        BenchError: It ended, or did not answer in time.
    """
    with running(name, command, folder, OFFLINE | BARE) as process:
        _until_ready(process, port)
        yield Target(name, f"http://127.0.0.1:{port}", process)


def _until_ready(process: Process, port: int) -> None:
    deadline = time.monotonic() + READY
    told = "nothing"
    while time.monotonic() < deadline:
        process.check()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("POST", "/generate", b'{"text":"x"}', {"content-type": "application/json"})
            answer = connection.getresponse()
            told = f"{answer.status} {answer.read()[:200].decode(errors='replace')}"
            if answer.status == 200:
                return
        except OSError as error:
            told = str(error)
        finally:
            connection.close()
        time.sleep(0.1)
    raise BenchError(f"{process.name} answered no request within {READY:g} s; its last words: {told}")


def rust_version(python: str) -> str:
    """The version of sglang-router in an environment; raises `BenchError` when it has none."""
    code = "from importlib.metadata import version; import sglang_router.launch_router; print(version('sglang-router'))"
    try:
        told = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, timeout=60)  # noqa: S603
    except OSError as error:
        raise BenchError(f"{python} does not run ({error.strerror}); give --rust a Python interpreter.") from None
    if told.returncode:
        cause = (told.stderr.strip().splitlines() or ["no cause was given"])[-1]
        raise BenchError(
            f"{python} has no sglang-router that runs ({cause}); `pip install sglang-router==0.3.2` there."
        )
    return told.stdout.strip()
