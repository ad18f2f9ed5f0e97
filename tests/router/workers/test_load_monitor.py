"""The servers' own load: what they say of it, at which path, and for how long it counts."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from router.workers import load_monitor
from router.workers.load_metrics import LoadMetrics
from router.workers.load_monitor import SKIPPED_POLLS, STALE_INTERVALS, LoadMonitor, LoadMonitorSettings
from router.workers.registry import Registry
from router.workers.server_load import MAX_COUNT, ServerLoad, from_get_load, from_loads
from router.workers.worker import Worker
from tests.router.support.aio import aio, until
from tests.router.support.fakes import Call, FakeServer, whole

# As SGLang 0.5.17 says it, of two data-parallel ranks of a prefill server.
LOADS = {
    "timestamp": "2026-01-01T00:00:00+00:00",
    "version": "0.5.17",
    "loads": [
        {
            "dp_rank": rank,
            "num_running_reqs": 2,
            "num_waiting_reqs": 3 + rank,
            "num_waiting_uncached_tokens": 1000,
            "token_usage": 0.5 * rank,
            "gen_throughput": 10.0,
            "disaggregation": {"mode": "prefill", "prefill_inflight_queue_reqs": 1},
        }
        for rank in (0, 1)
    ],
}
OLD = [{"dp_rank": 0, "num_reqs": 5, "num_waiting_reqs": 2, "num_tokens": 7}]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["loads", "num_running_reqs", "num_waiting_reqs", "num_reqs", "token_usage"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


def test_the_ranks_are_summed() -> None:
    assert from_loads(LOADS, 4, 1.0) == ServerLoad(
        requests=13, waiting=7, waiting_tokens=2000, token_usage=0.25, own_requests=4, asked_at=1.0
    )
    assert from_get_load(OLD, 4, 1.0) == ServerLoad(5, 2, None, None, 4, 1.0)


@given(JSON)
def test_no_answer_breaks_the_reading(answer: Any) -> None:
    for load in (from_loads(answer, 0, 0.0), from_get_load(answer, 0, 0.0)):
        if load is not None:
            assert 0 <= load.requests <= 9 * MAX_COUNT
            assert load.token_usage is None or 0 <= load.token_usage <= 1


class Loaded(FakeServer):
    """A server that tells its load at some paths."""

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__(self._handle)
        self.answers = answers

    async def _handle(self, call: Call) -> None:
        answer = self.answers.get(call.path.partition("?")[0])
        if isinstance(answer, bytes):
            await call.send(whole(answer))
        elif answer == "silence":
            await call.gone()
        else:
            await call.answer({} if answer is None else answer, 404 if answer is None else 200)

    @property
    def asked(self) -> list[str]:
        """The paths that were asked."""
        return [call.path.partition("?")[0] for call in self.calls]


class Monitored:
    """A monitor of one server, that asks when told to."""

    def __init__(self, server: Loaded, *, healthy: bool = True, away: bool = False, requests: int = 0) -> None:
        self.worker = Worker(server.url, "plain", models=("m",), healthy=healthy)
        self.worker.health.away = away
        self.worker.load.requests = requests
        self.monitor = LoadMonitor(Registry([self.worker]), LoadMonitorSettings(interval_secs=10), ["plain"])
        self._metrics = CollectorRegistry()
        self._metrics.register(LoadMetrics(self.monitor))

    async def poll(self) -> ServerLoad | None:
        await self.monitor.poll()
        return self.worker.server_load

    def metric(self, name: str, **labels: str) -> float | None:
        return self._metrics.get_sample_value(name, {"worker": self.worker.url, **labels})


@pytest.mark.parametrize(
    ("answers", "requests", "asked"),
    [
        ({"/v1/loads": LOADS, "/get_load": OLD}, 13, ["/v1/loads"] * 2),
        ({"/get_load": OLD}, 5, ["/v1/loads", "/get_load", "/get_load"]),
    ],
)
def test_the_best_path_that_a_server_has(answers: dict[str, Any], requests: int, asked: list[str]) -> None:
    @aio
    async def test() -> None:
        async with Loaded(answers) as server:
            one = Monitored(server, requests=3)
            for _ in range(2):
                load = await one.poll()
                assert load is not None
                assert (load.requests, load.own_requests) == (requests, 3)
            assert server.asked == asked
            assert one.metric("smg_engine_load_polls_total", mode="poll") == 2
            assert one.metric("moa_worker_load_stale") == 0
            assert one.metric("moa_worker_reported_requests") == requests
            one.worker.origin.close()

    test()


@aio
async def test_a_server_that_tells_nothing_is_rarely_asked() -> None:
    async with Loaded({}) as server:
        one = Monitored(server)
        for _ in range(SKIPPED_POLLS + 1):
            assert await one.poll() is None
        assert len(server.asked) == 2
        server.answers = {"/v1/loads": LOADS}  # a new version
        assert await one.poll() is not None
        assert one.metric("moa_worker_load_poll_failures_total") == 1
        one.worker.origin.close()


@pytest.mark.parametrize("answer", [b"no JSON", {"loads": []}, "silence", "gone"])
def test_an_old_report_counts_for_some_intervals(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    @aio
    async def test() -> None:
        async with Loaded({"/v1/loads": LOADS}) as server:
            one = Monitored(server)
            load = await one.poll()
            assert load is not None
            server.answers = {"/v1/loads": answer}
            if answer == "gone":
                await server.__aexit__()
            monkeypatch.setattr(load_monitor, "POLL_TIMEOUT", 0.05)
            assert await one.poll() == load, "it may be a passing fault"
            assert one.metric("moa_worker_load_stale") == 0
            one.worker.server_load = replace(load, asked_at=load.asked_at - STALE_INTERVALS * 10)
            assert await one.poll() is None
            assert one.metric("moa_worker_load_stale") == 1
            assert one.metric("moa_worker_reported_requests") is None
            assert one.metric("moa_worker_load_poll_failures_total") == 2
            assert not one.worker.health.suspected
            one.worker.origin.close()

    test()


@pytest.mark.parametrize("state", [{"healthy": False}, {"away": True}])
def test_who_cannot_answer_is_not_asked(state: dict[str, bool]) -> None:
    @aio
    async def test() -> None:
        async with Loaded({"/v1/loads": LOADS}) as server:
            assert await Monitored(server, **state).poll() is None
            assert server.asked == []

    test()


@aio
async def test_a_new_process_has_no_old_load() -> None:
    info = {"served_model_name": "m", "disaggregation_mode": "null", "random_seed": 1}
    async with Loaded({"/v1/loads": LOADS, "/server_info": info}) as server:
        one = Monitored(server)
        await one.worker.probe()
        assert await one.poll() is not None
        server.answers["/server_info"] = {**info, "random_seed": 2}
        await one.worker.probe()
        assert one.worker.server_load is None
        one.worker.origin.close()


@aio
async def test_monitoring_goes_on_after_an_unexpected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    one = LoadMonitor(Registry([]), LoadMonitorSettings(interval_secs=0.001), ["plain"])
    polls = 0

    async def poll() -> None:
        nonlocal polls
        polls += 1
        raise RuntimeError("unexpected")

    monkeypatch.setattr(one, "poll", poll)
    task = asyncio.create_task(one.run())
    await until(lambda: polls > 2, "it polls again")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@aio
async def test_how_long_a_report_counts_may_be_said() -> None:
    async with Loaded({"/v1/loads": LOADS}) as server:
        worker = Worker(server.url, "plain", models=("m",), healthy=True)
        monitor = LoadMonitor(Registry([worker]), LoadMonitorSettings(interval_secs=60, stale_secs=0.001), ["plain"])
        await monitor.poll()
        server.answers["/v1/loads"] = b"not a load"
        await until(lambda: worker.server_load is None or time.monotonic() > worker.server_load.asked_at + 0.001, "old")
        await monitor.poll()
        assert worker.server_load is None
        worker.origin.close()
