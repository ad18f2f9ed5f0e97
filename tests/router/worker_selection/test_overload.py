"""Servers that report too much work get no requests while there are others (they are fakes)."""

from typing import Any

import pytest

from router.worker_selection.overload import OverloadSettings
from router.workers.load_monitor import LoadMonitorSettings
from tests.router.load_balancing.groups import report
from tests.router.support.aio import aio, until
from tests.router.support.before_plain import BeforePlain
from tests.router.support.fakes import Call
from tests.router.support.plain import PlainServer
from tests.router.support.sglang_answers import of_engine

BODY = {"text": "x"}


class Reporting(PlainServer):
    """One that reports some waiting requests, and a share of KV in use."""

    def __init__(self, waiting: int, usage: float = 0.0) -> None:
        super().__init__()
        self.waiting, self.usage, self.generated = waiting, usage, 0
        self.answer = self._answer

    async def _answer(self, call: Call) -> None:
        if call.path.startswith("/v1/loads"):
            rank = {"num_running_reqs": 0, "num_waiting_reqs": self.waiting, "token_usage": self.usage}
            await call.answer({"loads": [rank]})
        else:
            self.generated += 1
            await call.answer(of_engine(call.path, call.json) or {})


async def answers(before: BeforePlain[Reporting]) -> tuple[list[int], list[int], str]:
    """The statuses of some requests, how many each server got, and the metrics."""
    router = before.router
    workers = router.registry.workers
    await until(lambda: all(worker.server_load is not None for worker in workers), "all have reported")
    statuses = [(await router.post("/generate", BODY)).status_code for _ in range(4)]
    return statuses, [server.generated for server in before.servers], (await router.http.get("/metrics")).text


@pytest.mark.parametrize(
    "settings",
    [
        {"waiting_requests": 5},
        {"token_usage": 0.8},
        {"protection": True},
        {"waiting_requests": 9, "protection": True},
    ],
)
def test_an_overloaded_server_gets_nothing(settings: dict[str, Any]) -> None:
    @aio
    async def test() -> None:
        servers = [Reporting(7, 0.95), Reporting(1, 0.5)]
        async with BeforePlain(servers, policy="round_robin", overload=OverloadSettings(**settings)) as before:
            statuses, generated, _ = await answers(before)
            assert (statuses, generated) == ([200] * 4, [0, 4])
            servers[0].waiting, servers[0].usage = 0, 0.0
            await before.router.load_monitor.poll()
            for _ in range(4):
                await before.router.post("/generate", BODY)
            assert servers[0].generated > 0
            await before.router.settled()

    test()


@pytest.mark.parametrize("shed", [False, True])
def test_where_all_are_overloaded(shed: bool) -> None:
    @aio
    async def test() -> None:
        servers = [Reporting(7), Reporting(8)]
        overload = OverloadSettings(waiting_requests=5, shed=shed)
        loads = LoadMonitorSettings(interval_secs=4)
        async with BeforePlain(servers, policy="round_robin", overload=overload, loads=loads) as before:
            statuses, generated, metrics = await answers(before)
            if shed:
                assert (statuses, generated) == ([503] * 4, [0, 0])
                assert 'smg_worker_overload_shed_total{stage="regular"} 4.0' in metrics
                refused = await before.router.post("/generate", BODY)
                assert refused.headers["retry-after"] == "4"
                assert "every plain server of the model 'm' is overloaded" in refused.text
            else:
                assert (statuses, generated) == ([200] * 4, [2, 2])
                assert 'smg_worker_overload_fallback_total{stage="regular"} 4.0' in metrics
            await before.router.settled()

    test()


@aio
async def test_nothing_is_asked_unasked() -> None:
    servers = [Reporting(7), Reporting(1)]
    async with BeforePlain(servers, policy="round_robin") as before:
        for _ in range(4):
            assert (await before.router.post("/generate", BODY)).status_code == 200
        assert [server.generated for server in servers] == [2, 2]
        assert not any(call.path.startswith("/v1/loads") for server in servers for call in server.calls)
        await before.router.settled()


def test_what_is_not_told_is_no_overload() -> None:
    settings = OverloadSettings(waiting_requests=1, token_usage=0.5)
    assert not settings.reached(None)
    assert not settings.reached(report(9))
    assert settings.reached(report(9, waiting=1))
    assert settings.reached(report(9, usage=0.5))
