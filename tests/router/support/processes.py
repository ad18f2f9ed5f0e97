"""`python -m router` as a process."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[3]


def router(*arguments: str, files: int | None = None) -> "subprocess.Popen[str]":
    """Start a router, with a soft limit of open files if one is given."""

    def prepare() -> None:
        # A shell that starts the tests in the background lets them, and so the router, ignore SIGINT.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    return subprocess.Popen(
        [sys.executable, "-m", "router", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,  # noqa: PLW1509 - no thread runs while these tests start it
    )


def free_port() -> int:
    """A port that nobody listens on, and that the system gives to nobody who does not name it."""
    for port in _ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is left")


def _first_port() -> int:
    """Each process that shares the tests has ports of its own."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw9").removeprefix("gw")
    return 10_000 + int(worker) % 10 * 2_000 + os.getpid() % 10 * 200


_ports = iter(range(_first_port(), 30_000))


def wait_for(url: str, process: "subprocess.Popen[str]") -> None:
    """Return when the URL answers 200."""
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None
        try:
            if httpx.get(url, timeout=10.0).status_code == 200:
                return
        except httpx.TransportError:  # not there yet, or another's server that just had this port
            pass
        assert time.monotonic() < deadline
        time.sleep(0.02)
