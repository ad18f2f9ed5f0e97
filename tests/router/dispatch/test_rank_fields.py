"""Data-parallel ranks: with `--dp-aware` the policies choose among them (the servers are fakes)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from router.cli.parser import parse
from router.dispatch.retries import RetrySettings
from router.http.body import Body
from router.workers.data_parallel import MAX_RANKS, DataParallelSettings, rank_count
from router.workers.health import HealthSettings
from router.workers.load_monitor import LoadMonitorSettings
from tests.router.cli.test_each_flag import PAIR
from tests.router.moa.test_run_failures import write_tree
from tests.router.moa.test_tree_runs import CHAT, Agents
from tests.router.support.aio import aio, until
from tests.router.support.fakes import Call, FakePair, FakeWorker
from tests.router.support.serving import Serving, serving
from tests.router.worker_selection.test_pair_places import held, places, start, windowed

AWARE = DataParallelSettings(dp_aware=True)
BODY = {"text": "x"}
PREFIX = "a beginning of many words, " * 40


def ranked(pair: FakePair, prefill: int = 1, decode: int = 1) -> FakePair:
    pair.prefill.info["dp_size"], pair.decode.info["dp_size"] = prefill, decode
    return pair


def plain_server(ranks: int, generate: Any = None) -> FakeWorker:
    async def generated(call: Call) -> None:
        await call.answer({"text": "x", "meta_info": {}})

    info = {"served_model_name": "fake", "disaggregation_mode": "null", "version": "0.5.17", "dp_size": ranks}
    return FakeWorker("decode", generate or generated, info=info)


@asynccontextmanager
async def before(*servers: FakeWorker, aware: bool = True, **settings: Any) -> AsyncIterator[Serving]:
    for server in servers:
        await server.server.__aenter__()
    try:
        urls = tuple(server.url for server in servers)
        async with serving(plain=urls, data_parallel=DataParallelSettings(aware), **settings) as router:
            yield router
    finally:
        for server in servers:
            await server.server.__aexit__(None, None, None)


def ranks_of(server: FakeWorker) -> list[Any]:
    return [call.json.get("routed_dp_rank") for call in server.requests if call.method == "POST"]


@aio
async def test_the_policy_chooses_the_rank() -> None:
    server, single = plain_server(3), plain_server(1)
    async with before(server, single, policy="round_robin") as router:
        for _ in range(8):
            assert (await router.post("/generate", BODY)).status_code == 200
        assert ranks_of(server) == [0, 1, 2, 0, 1, 2]
        assert ranks_of(single) == [None, None]
        workers = (await router.http.get("/workers")).json()["workers"]
        assert [worker["url"] for worker in workers] == [server.url, single.url]


@aio
async def test_without_the_flag_the_server_chooses() -> None:
    server = plain_server(3)
    async with before(server, aware=False) as router:
        assert (await router.post("/generate", BODY)).status_code == 200
        assert (await router.post("/generate", {**BODY, "routed_dp_rank": 2})).status_code == 200
        assert ranks_of(server) == [None, 2]


@aio
async def test_one_beginning_of_prompts_goes_to_one_rank() -> None:
    server = plain_server(4)
    async with before(server, policy="cache_aware") as router:
        for number in range(12):
            text = f"{PREFIX}{number}"
            assert (await router.post("/generate", {"text": text})).status_code == 200
        assert len(set(ranks_of(server))) == 1


@aio
async def test_both_are_told_where_prefill_is() -> None:
    pair = ranked(FakePair(), prefill=2, decode=3)
    async with serving(pair, data_parallel=AWARE, policy="round_robin") as router:
        for _ in range(6):
            assert (await router.post("/generate", BODY)).status_code == 200
        assert ranks_of(pair.prefill) == [0, 1] * 3
        assert ranks_of(pair.decode) == [0, 1, 2] * 2
        for server in (pair.prefill, pair.decode):
            assert [call.json["disagg_prefill_dp_rank"] for call in server.requests] == [0, 1] * 3
        await router.settled()
        assert [worker.load.requests for each in router.registry.workers for worker in each.ranks] == [0] * 5


@pytest.mark.parametrize(("prefill", "decode"), [(2, 1), (1, 2)])
def test_one_of_the_two_has_ranks(prefill: int, decode: int) -> None:
    @aio
    async def test() -> None:
        pair = ranked(FakePair(), prefill, decode)
        async with serving(pair, data_parallel=AWARE, policy="round_robin") as router:
            for _ in range(2):
                answer = await router.post("/v1/chat/completions", {"model": "fake", "messages": [], "stream": True})
                assert answer.status_code == 200
            assert ranks_of(pair.prefill) == ([0, 1] if prefill == 2 else [None, None])
            assert ranks_of(pair.decode) == ([0, 1] if decode == 2 else [None, None])
            for server in (pair.prefill, pair.decode):
                told = [call.json.get("disagg_prefill_dp_rank") for call in server.requests]
                assert told == ([0, 1] if prefill == 2 else [None, None])

    test()


@aio
async def test_samples_and_long_bodies_have_their_rank_too() -> None:
    pair = ranked(FakePair(), 2, 2)
    async with serving(pair, data_parallel=AWARE, policy="round_robin") as router:
        body = {"text": "x" * (1 << 17), "sampling_params": {"n": 3}}
        assert (await router.post("/generate", body)).status_code == 200
        for server in (pair.prefill, pair.decode):
            assert len(set(ranks_of(server))) == 1
            assert None not in ranks_of(server)
        assert (await router.post("/generate", {"text": "x" * (1 << 17)})).status_code == 200
        last = Body(pair.decode.requests[-1].json).fields
        assert (last["routed_dp_rank"], last["disagg_prefill_dp_rank"]) == (1, 1)


@pytest.mark.parametrize("name", ["routed_dp_rank", "data_parallel_rank"])
def test_a_client_cannot_choose_beside_the_router(name: str) -> None:
    @aio
    async def test() -> None:
        server, pair = plain_server(2), ranked(FakePair(), 2, 2)
        async with before(server) as router:
            answer = await router.post("/generate", {**BODY, name: 1})
            assert answer.status_code == 400
            assert f"`{name}` is chosen by this router" in answer.json()["error"]["message"]
        async with serving(pair, data_parallel=AWARE) as router:
            assert (await router.post("/generate", {**BODY, name: 1})).status_code == 400
            await router.settled()
        assert server.requests == pair.prefill.requests == pair.decode.requests == []

    test()


@aio
async def test_each_rank_generates_before_it_gets_requests() -> None:
    pair = ranked(FakePair(), 2, 3)
    async with serving(pair, data_parallel=AWARE, health=HealthSettings(probe_interval_secs=60)) as router:
        await until(lambda: bool(router.registry.models()), "it is warmed up")
        assert ranks_of(pair.prefill) == [0, 1, 0]
        assert ranks_of(pair.decode) == [0, 1, 2]


@aio
async def test_what_takes_no_rank_gets_none() -> None:
    server = plain_server(2)
    async with before(server) as router:
        assert (await router.post("/v1/embeddings", {"model": "fake", "input": "x"})).status_code == 200
        assert ranks_of(server) == [None]


@aio
async def test_a_retry_leaves_the_server_and_not_the_rank_alone() -> None:
    async def fails(call: Call) -> None:
        await call.answer({"error": "no"}, 500)

    bad, good = plain_server(3, fails), plain_server(3)
    retries = RetrySettings(max_retries=2, initial_backoff_ms=1)
    async with before(bad, good, policy="round_robin", retries=retries) as router:
        for _ in range(3):
            assert (await router.post("/generate", BODY)).status_code == 200
        assert len(good.requests) == 3, "no other rank of the server that failed is tried"


@aio
async def test_the_ranks_loads_decide() -> None:
    server = plain_server(2)
    usual = server.server.handler

    async def busy(call: Call) -> None:
        if call.path.startswith("/v1/loads"):
            ranks = [{"dp_rank": rank, "num_running_reqs": 9 - 9 * rank, "num_waiting_reqs": 0} for rank in (0, 1)]
            await call.answer({"loads": ranks})
        else:
            await usual(call)

    server.server.handler = busy
    async with before(server, policy="least_load", loads=LoadMonitorSettings(interval_secs=0.05)) as router:
        (worker,) = router.registry.workers
        await until(lambda: all(rank.server_load is not None for rank in worker.ranks), "it has told its loads")
        for _ in range(4):
            assert (await router.post("/generate", BODY)).status_code == 200
        assert ranks_of(server) == [1] * 4


@aio
async def test_each_rank_has_its_places() -> None:
    pair = windowed(ranked(FakePair(), 1, 2), 2, ranks=2)
    release = held(pair)
    async with serving(pair, data_parallel=AWARE, places=places(), policy="round_robin") as router:
        asked = start(router, 5)
        await until(lambda: router.dispatcher.selector.places.waiting == 1, "one waits")
        await until(lambda: len(pair.decode.requests) == 4, "four are sent")
        assert sorted(ranks_of(pair.decode)) == [0, 0, 1, 1]
        release.set()
        assert [(await each).status_code for each in asked] == [200] * 5
        await router.settled()


@aio
async def test_a_server_that_comes_back_with_other_ranks() -> None:
    server = plain_server(2)
    async with before(server, policy="round_robin") as router:
        (worker,) = router.registry.workers
        assert [rank.url for rank in worker.ranks] == [f"{server.url}@0", f"{server.url}@1"]
        server.info["dp_size"] = 3
        await router.registry.probe()
        assert len(worker.ranks) == 3
        assert {rank.server for rank in worker.ranks} == {worker}
        server.info["dp_size"] = 1
        await router.registry.probe()
        assert (await router.post("/generate", BODY)).status_code == 200
        assert ranks_of(server) == [None]


@pytest.mark.parametrize("arm", ["tree", "splice"])
def test_the_agents_of_a_tree_stay_on_their_rank(arm: str, tmp_path: Any) -> None:
    @aio
    async def test() -> None:
        agents = Agents()
        ranked(agents.pair, 2, 2)
        async with serving(agents.pair, trees=write_tree(tmp_path, arm=arm), data_parallel=AWARE) as router:
            assert (await router.post("/v1/chat/completions", CHAT)).status_code == 200
            for call in agents.pair.decode.requests:
                assert call.json["routed_dp_rank"] in (0, 1)
                (prefill,) = [
                    each.json
                    for each in agents.pair.prefill.requests
                    if each.json["bootstrap_room"] == call.json["bootstrap_room"]
                ]
                assert prefill["routed_dp_rank"] == call.json["disagg_prefill_dp_rank"]
            await router.settled()

    test()


@pytest.mark.parametrize("told", [None, 0, 1, -2, 2.0, True, "2", MAX_RANKS + 1, [2]])
def test_numbers_of_ranks_that_are_none(told: Any) -> None:
    assert rank_count({"dp_size": told}) == 1


def test_the_flag() -> None:
    assert parse([*PAIR, "--dp-aware"]).data_parallel == AWARE
    assert not parse([*PAIR]).data_parallel.dp_aware
