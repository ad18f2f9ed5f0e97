"""Places on pairs: a request waits in the router until both servers have room (they are fakes)."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from router.cli.parser import parse
from router.server.processes.limit_shares import process_share
from router.worker_selection.pair_places import PairPlaceSettings
from tests.router.cli.test_each_flag import PAIR
from tests.router.moa.test_run_failures import write_tree
from tests.router.moa.test_tree_runs import CHAT, Agents
from tests.router.support.aio import aio, until
from tests.router.support.fakes import Call, FakePair
from tests.router.support.serving import Serving, serving

BODY = {"text": "x"}


def windowed(pair: FakePair, most: int, ranks: int = 1) -> FakePair:
    """Let decode say how many requests each of its ranks runs at once."""
    pair.decode.info["internal_states"] = [{"effective_max_running_requests_per_dp": most}] * ranks
    return pair


def held(pair: FakePair, role: str = "decode") -> asyncio.Event:
    """Let a server answer only after an event."""
    release, worker = asyncio.Event(), getattr(pair, role)
    answer = worker.generate

    async def waits(call: Call) -> None:
        if role == "decode":
            pair.room(call).set()
        if await call.waits_for(release):
            await answer(call)

    worker.generate = waits
    return release


def places(**settings: Any) -> PairPlaceSettings:
    return PairPlaceSettings(**{"decode_wait_secs": 30.0, **settings})


async def metric(router: Serving, name: str) -> float:
    lines = (await router.http.get("/metrics")).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def start(router: Serving, count: int, body: Any = BODY) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(router.post("/generate", body)) for _ in range(count)]


async def statuses(tasks: list[asyncio.Task[Any]]) -> list[int]:
    return [(await task).status_code for task in tasks]


@pytest.mark.parametrize("ranks", [1, 2])
def test_no_prefill_starts_without_a_place_on_decode(ranks: int) -> None:
    @aio
    async def test() -> None:
        pair = windowed(FakePair(), 4 // ranks, ranks)
        release = held(pair)
        async with serving(pair, places=places()) as router:
            tasks = start(router, 10)
            await until(lambda: router.dispatcher.selector.places.waiting == 6, "the others wait")
            await until(lambda: len(pair.prefill.requests) == len(pair.decode.requests) == 4, "four are sent")
            assert await metric(router, "smg_pd_admission_window") == 4
            assert await metric(router, "moa_pair_places_waiting") == 6
            release.set()
            assert await statuses(tasks) == [200] * 10
            assert await metric(router, "smg_pd_admission_waits_total") == 6
            await router.settled()
            assert [worker.load.places_taken for worker in router.registry.workers] == [0, 0]

    test()


@aio
async def test_nothing_waits_unasked_nor_for_a_server_that_says_nothing() -> None:
    for pair, settings in ((windowed(FakePair(), 1), PairPlaceSettings()), (FakePair(), places())):
        release = held(pair)
        async with serving(pair, places=settings) as router:
            tasks = start(router, 5)
            await until(lambda pair=pair: len(pair.decode.requests) == 5, "all are sent")  # type: ignore[misc]
            release.set()
            assert await statuses(tasks) == [200] * 5
            await router.settled()


@aio
async def test_a_prefill_server_has_so_many_requests_at_most() -> None:
    first, second = FakePair(), FakePair()
    second.rooms = first.rooms  # any prefill server with any decode server
    releases = [held(pair, role) for pair in (first, second) for role in ("prefill", "decode")]
    async with serving(first, second, places=PairPlaceSettings(prefills=2)) as router:
        tasks = start(router, 9)
        await until(lambda: router.dispatcher.selector.places.waiting == 5, "the others wait")
        await until(lambda: [len(pair.prefill.requests) for pair in (first, second)] == [2, 2], "four are sent")
        for release in releases:
            release.set()
        assert await statuses(tasks) == [200] * 9
        assert await metric(router, "moa_prefill_admission_waits_total") == 5
        await router.settled()


@aio
async def test_the_oldest_goes_first_and_one_that_leaves_makes_room() -> None:
    pair = windowed(FakePair(), 1)
    release = held(pair)
    async with serving(pair, places=places()) as router:
        places_of = router.dispatcher.selector.places
        tasks = start(router, 1, {"text": "0"})
        await until(lambda: len(pair.decode.requests) == 1, "the first is sent")
        for number in range(1, 4):
            tasks += start(router, 1, {"text": str(number)})
            await until(partial(lambda waiting: places_of.waiting == waiting, number), "it waits")
        tasks.pop(1).cancel()
        await until(lambda: router.dispatcher.selector.places.waiting == 2, "it has left")
        release.set()
        assert await statuses(tasks) == [200] * 3
        assert [call.json["text"] for call in pair.decode.requests] == ["0", "2", "3"]
        await router.settled()


@pytest.mark.parametrize(
    "settings",
    [
        {"decode_wait_secs": 0.05},
        {"decode_wait_secs": 0.0},
        {"queue_size": 0},
    ],
)
def test_without_a_place_in_time_it_is_refused(settings: dict[str, Any]) -> None:
    @aio
    async def test() -> None:
        pair = windowed(FakePair(), 1)
        release = held(pair)
        async with serving(pair, places=places(**settings)) as router:
            (task,) = start(router, 1)
            await until(lambda: len(pair.decode.requests) == 1, "it is sent")
            refused = await router.post("/generate", BODY)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            message = refused.json()["error"]["message"]
            assert message.startswith("every decode server of the model 'fake' has as many requests as it may, and ")
            assert len(pair.prefill.requests) == 1
            assert await metric(router, "smg_pd_admission_sheds_total") == 1
            release.set()
            assert await statuses([task]) == [200]
            await router.settled()

    test()


@pytest.mark.parametrize("body", [{"text": ["a", "b", "c"]}, {"text": "x", "sampling_params": {"n": 3}}])
def test_a_request_takes_a_place_for_each_answer(body: dict[str, Any]) -> None:
    """One that is longer than the window comes when nothing else runs."""

    @aio
    async def test() -> None:
        pair = windowed(FakePair(), 3)
        release = held(pair)
        async with serving(pair, places=places()) as router:
            long = start(router, 1, body)
            await until(lambda: bool(pair.decode.requests), "it is sent")
            short = start(router, 1)
            await until(lambda: router.dispatcher.selector.places.waiting == 1, "the other one waits")
            assert router.registry.workers[1].load.places_taken == 3
            release.set()
            assert await statuses(short) == [200]
            await asyncio.gather(*long)
            longer = start(router, 1, {"text": ["a"] * 9})
            await asyncio.gather(*longer)
            await router.settled()
            assert router.registry.workers[1].load.places_taken == 0

    test()


@aio
async def test_a_server_with_a_place_is_preferred() -> None:
    small, large = windowed(FakePair(), 1), windowed(FakePair(), 8)
    large.rooms = small.rooms
    releases = [held(small), held(large)]
    async with serving(small, large, places=places(), policy="passthrough") as router:
        tasks = start(router, 4)
        sent = [1, 3]
        await until(lambda: [len(each.decode.requests) for each in (small, large)] == sent, "the first server is full")
        for release in releases:
            release.set()
        assert await statuses(tasks) == [200] * 4
        await router.settled()


@aio
async def test_agents_of_trees_wait_too(tmp_path: Path) -> None:
    agents = Agents()
    windowed(agents.pair, 1)
    most = 0
    answer = agents.pair.decode.generate

    async def watched(call: Call) -> None:
        nonlocal most
        most = max(most, router.registry.workers[1].load.places_taken)
        await answer(call)

    agents.pair.decode.generate = watched
    async with serving(agents.pair, trees=write_tree(tmp_path, arm="tree"), places=places()) as router:
        assert (await router.post("/v1/chat/completions", CHAT)).status_code == 200
        assert most == 1
        await router.settled()


def test_processes_share_the_places() -> None:
    settings = parse([*PAIR, "--prefill-max-inflight-requests-per-worker", "5", "--workers", "2"])
    shares = [process_share(settings, index, 2).places for index in (0, 1)]
    assert [(share.prefills, share.processes) for share in shares] == [(3, 2), (2, 2)]


@pytest.mark.parametrize("arguments", [["0"], ["1", "--workers", "2"]])
def test_a_limit_that_lets_nothing_through_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([*PAIR, "--prefill-max-inflight-requests-per-worker", *arguments])
    assert ended.value.code == 2
    assert "leaves nothing for some of" in capsys.readouterr().err


@aio
async def test_one_models_queue_does_not_fill_anothers() -> None:
    busy, idle = windowed(FakePair("busy"), 1), windowed(FakePair("idle"), 1)
    releases = [held(pair) for pair in (busy, idle)]
    async with serving(busy, idle, places=places(queue_size=1)) as router:
        tasks: list[asyncio.Task[Any]] = []

        async def fill(model: str, pair: FakePair, waiting: int) -> None:
            body = {**BODY, "model": model}
            tasks.extend(start(router, 1, body))
            await until(lambda: len(pair.decode.requests) == 1, "it is sent")
            tasks.extend(start(router, 1, body))
            await until(lambda: router.dispatcher.selector.places.waiting == waiting, "it waits")
            assert (await router.post("/generate", body)).status_code == 503

        await fill("busy", busy, 1)
        await fill("idle", idle, 2)
        for release in releases:
            release.set()
        assert await statuses(tasks) == [200] * 4
        await router.settled()
