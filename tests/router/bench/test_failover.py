"""The benchmark that kills one of two servers."""

import sys
from pathlib import Path

import pytest

from router.bench.failover.__main__ import OURS, row, table
from router.bench.failover.measure import Servers, measure

ROUTER = [sys.executable, "-m", "router"]


@pytest.mark.parametrize("kind", ["plain", "pairs"])
def test_nothing_fails_when_one_of_two_servers_dies(tmp_path: Path, kind: Servers) -> None:
    found = measure(OURS, ROUTER, kind, 1.0, tmp_path)
    assert found.failed == []
    assert found.answered > 8
    assert found.slowest > 0, "it went on after the kill"


def test_what_fails_is_counted(tmp_path: Path) -> None:
    """A router that may not try another server fails requests, at least those that the dead one had."""
    found = measure(OURS, [*ROUTER, "--disable-retries", "--disable-circuit-breaker"], "plain", 1.0, tmp_path)
    assert found.failed
    told = row(OURS, "plain", found)
    assert told["requests"] == found.answered + len(found.failed)
    assert sum(told["failures"].values()) == told["failed"] == len(found.failed)
    assert table([told]).row_count == 1
