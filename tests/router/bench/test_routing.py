"""Replays of traces by policies: repeatable, with servers that count as real ones do, and they tell policies apart."""

import json
import random
from pathlib import Path

import pytest

from router.bench.routing.__main__ import main
from router.bench.routing.replay import replay
from router.bench.routing.servers import (
    DECODE_REQUEST_SECS,
    DECODE_STEP_SECS,
    PREFILL_STEP_SECS,
    PREFILL_TOKEN_SECS,
    RadixCache,
)
from router.bench.routing.traces import PAGE, TRACES, TracedRequest
from router.workers.kv_blocks import KvBlocks


def trace(name: str, count: int, servers: int = 4) -> list[TracedRequest]:
    return list(TRACES[name](count, servers, random.Random(1)))


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_has_so_many_requests_that_wait_for_earlier_ones_only(name: str) -> None:
    requests = trace(name, 60)
    assert 40 < len(requests) <= 60
    assert all(upstream < number for number, request in enumerate(requests) for upstream in request.after)
    assert all(len(request.answer) >= 2 and request.prompt for request in requests)


@pytest.mark.parametrize("name", ["agents", "trees"])
def test_readers_have_the_answers_in_their_prompts(name: str) -> None:
    requests = trace(name, 60)
    readers = [request for request in requests if request.after]
    assert readers
    assert all(requests[upstream].answer in request.prompt for request in readers for upstream in request.after)


def test_a_replay_can_be_repeated() -> None:
    for name in ("least_load", "predicted_latency"):
        assert replay(name, trace("agents", 60), [1.0] * 4) == replay(name, trace("agents", 60), [1.0] * 4)


def test_times_are_those_of_prefill_and_decode() -> None:
    request = TracedRequest("x" * 1_600, "y" * 11, 0.0)
    done = replay("round_robin", [request, TracedRequest("x" * 1_600, "y" * 11, 10.0)], [1.0])
    cold, warm = (1000 * (PREFILL_STEP_SECS + PREFILL_TOKEN_SECS * tokens) for tokens in (1_600, 1))
    decode = 1000 * 10 * (DECODE_STEP_SECS + DECODE_REQUEST_SECS)
    assert done.ttft_mean_ms == pytest.approx((cold + warm) / 2)
    assert done.latency_mean_ms == pytest.approx((cold + warm) / 2 + decode)
    assert done.hit_rate == pytest.approx(1_599 / 3_200)


def test_a_cache_evicts_what_was_used_longest_ago_and_tells() -> None:
    told = KvBlocks(PAGE)
    cache = RadixCache(4 * PAGE, told)
    first, second = (TracedRequest(token * 3 * PAGE, "", 0.0) for token in "ab")
    cache.insert(first.pages, first.prompt, 0)
    cache.insert(second.pages, second.prompt, 0)
    assert (cache.match(first.pages), cache.match(second.pages), len(told)) == (1, 3, 4)
    cache.insert(second.pages, second.prompt, 2 * PAGE)
    assert (cache.match(first.pages), cache.match(second.pages), len(told)) == (0, 3, 3)


def test_keeping_sessions_together_finds_more_in_the_cache() -> None:
    requests = trace("agents", 200)
    spread = replay("round_robin", requests, [1.0] * 4).hit_rate
    assert all(replay(name, requests, [1.0] * 4).hit_rate > spread for name in ("manual", "predicted_latency"))


@pytest.mark.parametrize("name", ["one prefix", "agents"])
def test_predicted_latency_is_ahead_of_cache_aware(name: str) -> None:
    ours, other = (replay(policy, trace(name, 300), [1.0] * 4) for policy in ("predicted_latency", "cache_aware"))
    assert ours.ttft_mean_ms < other.ttft_mean_ms
    assert ours.ttft_p99_ms < other.ttft_p99_ms
    assert ours.latency_mean_ms < other.latency_mean_ms


def test_a_slow_server_gets_less() -> None:
    ours, other = (
        replay(policy, trace("unrelated", 200), [2.0, 1.0, 1.0, 1.0]) for policy in ("predicted_latency", "round_robin")
    )
    assert ours.ttft_mean_ms < other.ttft_mean_ms


def test_a_table_and_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "record.json"
    policies = ["cache_aware", "round_robin"]
    main(["--requests", "20", "--servers", "2", "--kv-events", "--policies", *policies, "--out", str(out)])
    printed, record = capsys.readouterr().out, json.loads(out.read_text())
    assert all(printed.count(f"{name} ") >= len(TRACES) for name in policies)
    assert list(record["traces"]) == list(TRACES)
    assert set(record["traces"]["agents"]["cache_aware"]) >= {"ttft_mean_ms", "ttft_p50_ms", "ttft_p99_ms", "hit_rate"}
    assert record["command"].startswith("python -m router.bench.routing --requests 20")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--requests", "9"], "--requests 9 is too few"),
        (["--servers", "0"], "--servers 0 is too few"),
        (["--slow", "9"], "--slow 9 is no number of the 8 servers"),
        (["--load", "nan"], "--load nan is no rate"),
    ],
)
def test_wrong_flags_are_refused(wrong: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(wrong)
    assert words in capsys.readouterr().err
