"""Traces sent through the router to a real server: what is measured is what the server did."""

import json
from pathlib import Path

import pytest

from router.bench.routing import live_main
from tests.e2e.servers import Servers


def test_policies_on_a_real_server(servers: Servers, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "record.json"
    arguments = ["--servers", servers.plain, "--requests", "10", "--shorter", "40", "--slower", "0.1"]
    arguments += ["--traces", "agents", "--policies", "cache_aware", "--out", str(out)]
    assert live_main.main(arguments) == 0
    record = json.loads(out.read_text())
    figures = record["traces"]["agents"]["cache_aware"]
    assert 0 < figures["ttft_p50_ms"] <= figures["ttft_p99_ms"]
    assert figures["ttft_mean_ms"] < figures["latency_mean_ms"]
    assert 0.05 < figures["hit_rate"] < 1, "prompts of this trace begin alike"
    assert "cache_aware" in capsys.readouterr().out


def test_servers_that_do_not_answer_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert live_main.main(["--servers", "http://127.0.0.1:9", "--traces", "trees", "--policies", "random"]) == 1
    assert "http://127.0.0.1:9 cannot be reached" in capsys.readouterr().err
