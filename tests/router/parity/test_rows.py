"""What sglang-router and smg answer otherwise than this router did: each row is right now, or says why it differs."""

import ast
import socket
from pathlib import Path

import pytest

from router.cli.parser import parse
from tests.router.parity.replay import replaying
from tests.router.parity.rows import Row, rows
from tests.router.support.aio import run
from tests.router.support.processes import free_port, router, wait_for

ROOT = Path(__file__).parents[3]
ROWS = rows()


@pytest.mark.parametrize("row", [row for row in ROWS if row.steps], ids=lambda row: f"{row.mode}: {row.request}")
def test_a_row(row: Row) -> None:
    async def test() -> None:
        async with replaying(row) as replay:
            await replay.run()

    run(test)


def test_rows_stand_once_and_name_tests_that_are_there() -> None:
    names = [(row.mode, row.request) for row in ROWS]
    assert len(set(names)) == len(names)
    for row in ROWS:
        if row.shown_by is not None:
            path, name = row.shown_by.split("::")
            functions = {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if hasattr(node, "name")}
            assert name in functions, row.shown_by


def test_http_2_is_spoken() -> None:
    """A client that knows beforehand sends the preface and settings, and gets settings."""
    port = free_port()
    process = router("--host", "127.0.0.1", "--port", str(port), "--log-level", "error")
    try:
        wait_for(f"http://127.0.0.1:{port}/liveness", process)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
            assert client.recv(9)[3:4] == b"\x04"
    finally:
        process.kill()
        process.communicate()


def test_health_is_judged_as_the_others_judge_it() -> None:
    """A flag of the circuit breaker changes nothing of it."""
    for more in (
        [],
        ["--cb-failure-threshold", "10", "--cb-success-threshold", "3", "--cb-timeout-duration-secs", "60"],
    ):
        health = parse(more).health
        assert (health.failure_threshold, health.success_threshold, health.timeout_secs) == (3, 2, 5)
