"""Routers of a test's own, in front of the running pair."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.e2e.servers import TIMEOUT, Servers, wait_for
from tests.router.support.processes import free_port, router


class OwnRouter:
    """`python -m router` with the pair, or with another decode server's address, and flags of a test."""

    def __init__(self, servers: Servers, *flags: str, decode: str | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._flags = ["--pd-disaggregation", "--prefill", servers.prefill, str(servers.bootstrap_port)]
        self._flags += ["--decode", decode or servers.decode, "--host", "127.0.0.1", "--port", str(self.port)]
        self._flags += ["--log-level", "error", *flags]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Return when it is ready."""
        self._process = router(*self._flags)
        assert wait_for(self._ready, 300), "it did not become ready"

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._process.communicate()
        try:
            return httpx.get(f"{self.url}/readiness", timeout=TIMEOUT).status_code == 200
        except httpx.ConnectError:
            return False

    def end(self, number: signal.Signals) -> None:
        """Send it a signal and wait for its end."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.communicate(timeout=300)

    def workers(self) -> dict[str, dict[str, Any]]:
        """What it tells of its workers, by role."""
        told = httpx.get(f"{self.url}/workers", timeout=TIMEOUT).json()["workers"]
        return {worker["role"]: worker for worker in told}


@contextmanager
def own_router(servers: Servers, *flags: str, decode: str | None = None) -> Iterator[OwnRouter]:
    """One that is ready, and killed in the end."""
    one = OwnRouter(servers, *flags, decode=decode)
    one.start()
    try:
        yield one
    finally:
        one.end(signal.SIGKILL)
