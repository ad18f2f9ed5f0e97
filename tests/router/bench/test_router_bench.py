"""The benchmark's own parts, with the fake servers and the load generator in Python."""

import argparse
import subprocess
import sys
from pathlib import Path

import orjson
import psutil
import pytest

from router.bench import load_generator, peers, routers, wrk
from router.bench.__main__ import parse
from router.bench.cases import PATH, SHORT, Load, body_cases, chat_body, long_body, short_cases, stream_body
from router.bench.errors import BenchError
from router.bench.fake_pair import fake_pair
from router.bench.fake_responses import worker_info
from router.bench.harness import Harness
from router.bench.nginx_pair import nginx_pair
from router.bench.processes import free_port, running, wait_until_listening
from router.bench.report import as_json, memory_table, rows, table
from router.bench.sample import Sample, percentile


def _children() -> set[int]:
    """Processes of this one that have not ended."""
    found = psutil.Process().children(recursive=True)
    return {each.pid for each in found if each.status() != psutil.STATUS_ZOMBIE}


def test_the_harness_with_ours(tmp_path: Path) -> None:
    """Every kind of case goes through the real router, and its figures into the table and the file."""
    load = Load(0.5, tmp_path, use_wrk=False)
    cases = [*short_cases([2]), *body_cases(2, 3, 1)]
    heard: list[str] = []
    before = _children()
    found, memory = Harness(fake_pair).measure(cases, 1, load, heard.append)
    streams = [
        "2 streams, full speed",
        "2 streams, 200 tokens/s each",
        "1 stream, 20 tokens/s",
        "3 streams, 20 tokens/s each",
    ]
    assert list(found) == ["2 connections", *streams, "100 kB chat, 8 connections", "1 MiB body"]
    for samples in found.values():
        assert list(samples) == ["direct", "ours"]
        assert not any(sample.errors for each in samples.values() for sample in each)
        assert all(sample.requests or sample.tokens for each in samples.values() for sample in each)
        assert samples["ours"][0].cpu is not None
    assert 0 < memory["ours"].start <= memory["ours"].peak
    assert heard[:2] == ["2 connections, round 1 of 1: direct", "2 connections, round 1 of 1: ours"]
    result = orjson.loads(orjson.dumps(as_json(["x"], {}, found, {"all": memory})))
    assert result["cases"]["1 MiB body"]["ours"]["rounds"][0]["errors"] == 0
    assert table(found).row_count == 2 * len(cases)
    assert memory_table({"all": memory}).row_count == 1
    assert _children() <= before


def test_plain_servers_and_several_processes(tmp_path: Path) -> None:
    load = Load(0.5, tmp_path, use_wrk=False)
    found, memory = Harness(fake_pair, workers=[2], plain=True).measure(
        [short_cases([2])[0], body_cases(2, 2, 1)[0]], 1, load, lambda _: None
    )
    assert list(memory) == ["ours", "ours, --workers 2"]
    for samples in found.values():
        assert not any(sample.errors for each in samples.values() for sample in each)
        assert all(sample.requests or sample.tokens for each in samples.values() for sample in each)


def test_the_time_between_tokens_of_a_stream_is_measured(tmp_path: Path) -> None:
    """Tokens come every 20 ms, with a whole stream's pause before the next stream that is no gap."""
    with fake_pair(tmp_path) as (_, decode):
        sample = load_generator.measure(decode, PATH, stream_body(4, 20_000), connections=2, seconds=10, limit=2)
    assert (sample.requests, sample.tokens) == (4, 16)
    assert sample.gap is not None
    assert sample.gap >= 15_000


def test_the_fake_server_and_the_client_agree(tmp_path: Path) -> None:
    """All tokens of a stream are counted however they are cut, and a limit is kept to."""
    with fake_pair(tmp_path) as (prefill, decode):
        whole = load_generator.measure(decode, PATH, stream_body(500, 0), connections=3, seconds=10, limit=2)
        assert (whole.requests, whole.tokens, whole.errors) == (6, 3000, 0)
        slow = load_generator.measure(decode, PATH, stream_body(10**6, 1000), connections=1, seconds=1.0)
        assert (slow.requests, slow.errors) == (0, 0)
        assert 0 < slow.tokens < 10**6
        long = load_generator.measure(prefill, PATH, long_body(1 << 20), connections=1, seconds=10, limit=3)
        assert (long.requests, long.tokens, long.errors) == (3, 0, 0)


def test_what_the_client_counts_as_errors(tmp_path: Path) -> None:
    with fake_pair(tmp_path) as (_, decode):
        port = free_port()
        command = routers.router_command(
            routers.pair_arguments(decode, decode), port
        )  # a decode server as prefill: the router has no pair
        with running("router", command, tmp_path) as process:
            wait_until_listening(process, port)
            sample = load_generator.measure(f"http://127.0.0.1:{port}", PATH, SHORT, connections=2, seconds=10)
            assert (sample.requests, sample.errors) == (0, 2)
    with pytest.raises(BenchError, match="cannot be reached"):
        load_generator.measure(decode, PATH, SHORT, connections=1, seconds=1)


def test_long_bodies_are_as_long_as_said() -> None:
    assert len(chat_body(100_000)) == 100_000
    assert orjson.loads(chat_body(100_000))["messages"][0]["content"].startswith("word word ")
    body = long_body(1 << 20)
    assert len(body) == 1 << 20
    assert orjson.loads(body)["text"].startswith("word word ")


def test_added_latency_is_the_difference_within_a_round() -> None:
    found = {
        "direct": [Sample(10, 20, 100, 1), Sample(30, 60, 100, 1), Sample(10, 20, 100, 1)],
        "ours": [Sample(15, 40, 50, 1, cpu=3), Sample(40, 90, 60, 1, errors=2, cpu=4), Sample(99, 99, 10, 1, cpu=9)],
    }
    direct, ours = rows(found).values()
    assert (direct.p50, direct.p99, direct.rate, direct.cpu) == (10, 20, 100, None)
    assert (ours.p50, ours.p99, ours.rate, ours.cpu, ours.errors) == (10, 30, 50, 4, 2)


def test_percentiles() -> None:
    ordered = [float(value) for value in range(1, 101)]
    assert (percentile(ordered, 0.5), percentile(ordered, 0.99), percentile([7.0], 0.99)) == (50, 99, 7)
    assert percentile([], 0.5) != percentile([], 0.5)


@pytest.mark.parametrize(
    ("start", "program"), [(wrk.wrk_path, "wrk"), (lambda: nginx_pair(Path()).__enter__(), "nginx")]
)
def test_a_missing_program_is_named(
    start: "type[object]", program: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match=f"^{program} is missing; install it .* or give --pure.$"):
        start()


def test_an_interpreter_without_the_router_that_is_asked_for(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho 'ModuleNotFoundError: no' >&2; exit 1\n")
    bare.chmod(0o755)
    with pytest.raises(BenchError, match=r"has no sglang-router that runs \(ModuleNotFoundError: no\)"):
        peers.peer_version("sglang-router", str(bare))
    with pytest.raises(BenchError, match=r"does not run .*; give --smg a Python interpreter"):
        peers.peer_version("smg", str(tmp_path / "none"))


def test_a_process_that_ends_is_told_with_its_last_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('first'); print('no luck'); raise SystemExit(3)"]
    with (
        running("it", command, tmp_path) as process,
        pytest.raises(BenchError, match=r"^it ended with code 3: no luck$"),
    ):
        wait_until_listening(process, free_port())


def test_a_process_that_ignores_sigterm_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.bench.processes.STOP_TIMEOUT", 0.1)
    port = free_port()
    code = (
        "import signal, socket, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"listener = socket.create_server(('127.0.0.1', {port})); time.sleep(60)"
    )
    with running("deaf", [sys.executable, "-c", code], tmp_path) as process:
        wait_until_listening(process, port)
    assert process.popen.returncode == -9


def test_workers_tell_their_role() -> None:
    assert orjson.loads(worker_info("prefill")["/server_info"])["disaggregation_mode"] == "prefill"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rounds", "0"], "--rounds 0 measures nothing"),
        (["--connections", "1", "0"], "--connections 0 measures nothing"),
        (["--seconds", "0"], "--seconds 0 is no length"),
        (["--seconds", "nan"], "--seconds nan is no length"),
        (["--seconds", "61"], "--seconds 61 is no length"),
    ],
)
def test_wrong_flags(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse(arguments)
    assert left.value.code == 2
    assert words in capsys.readouterr().err


def test_what_is_refused_at_the_start() -> None:
    command = [sys.executable, "-m", "router.bench", "--cores", "100000"]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, check=False, cwd=root, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert "cores, not 100000; give --cores " in done.stderr


def test_defaults() -> None:
    given = parse([])
    assert isinstance(given, argparse.Namespace)
    assert (given.rounds, given.connections, given.body_mib, given.cores) == (3, [1, 50, 400], 16, 2)
