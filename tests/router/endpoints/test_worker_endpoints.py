"""Workers that come and go, health by thresholds, and readiness by a real generation."""

import asyncio
from typing import Any

import httpx
import pytest

from router.errors import Conflict
from router.workers.health import HealthSettings
from router.workers.registry import Registry
from router.workers.worker import Worker
from tests.router.support.aio import SLOW, aio, until, within
from tests.router.support.fakes import Call, FakePair, chat_event, started, whole
from tests.router.support.serving import Serving, serving

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
WARM = HealthSettings(probe_interval_secs=60)


async def listed(client: Serving) -> dict[str, dict[str, Any]]:
    return {worker["url"]: worker for worker in (await client.http.get("/workers")).json()["workers"]}


async def eventually(client: Serving, path: str, status: int) -> httpx.Response:
    """Ask until the answer has the status."""
    async with asyncio.timeout(SLOW * 5):
        while True:
            answer = await client.http.get(path)
            if answer.status_code == status:
                return answer
            await asyncio.sleep(0.005)


# First generations


@aio
async def test_ready_means_generated() -> None:
    release = asyncio.Event()
    pair = FakePair()
    well = pair.decode.generate

    async def slow(call: Call) -> None:
        await release.wait()
        await well(call)

    pair.decode.generate = slow
    async with serving(pair, health=WARM) as client:
        await until(lambda: len(pair.decode.requests) == 1, "something tiny is asked for")
        assert pair.decode.requests[0].json["sampling_params"]["max_new_tokens"] <= 4
        answer = await client.http.get("/readiness")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert (await client.http.get("/health")).json() == {"status": "ok", "models": []}
        assert (await client.http.get("/liveness")).status_code == 200
        assert (await client.post("/generate", {"text": "x"})).status_code == 503
        told = (await client.http.get("/workers")).json()
        assert [worker["generated"] for worker in told["workers"]] == [False, False]
        assert [one["generated"] for one in told["pairs"]] == [False]
        release.set()
        ready = await eventually(client, "/readiness", 200)
        assert ready.json() == {"status": "ready", "healthy_workers": 2, "total_workers": 2, "judge": "idle"}
        assert (await client.http.get("/workers")).json()["pairs"][0]["generated"]
        assert (await client.post("/generate", {"text": "x"})).status_code == 200
        await client.settled()


@aio
async def test_every_pair_generates_once() -> None:
    one, two = FakePair(), FakePair()
    two.rooms = one.rooms
    async with serving(one, two, health=WARM) as client:
        await eventually(client, "/readiness", 200)
        met = {call.json["bootstrap_room"] for fake in (one, two) for call in fake.decode.requests}
        assert len(met) == 4
        assert [len(fake.requests) for pair in (one, two) for fake in (pair.prefill, pair.decode)] == [2] * 4
        await client.supervisor._probe_all()
        await client.settled()
        assert len(one.decode.requests) == 2, "and not again with the next look"


@aio
async def test_a_first_generation_that_fails_is_tried_again() -> None:
    pair = FakePair()
    well = pair.decode.generate

    async def fails(call: Call) -> None:
        await call.send(whole(b"no memory", 500))

    pair.decode.generate = fails
    async with serving(pair, health=WARM) as client:
        await until(lambda: client.registry.workers[0].health.problem is not None, "the problem is known")
        problem = (await listed(client))[pair.decode.url]["problem"]
        assert problem.startswith(f"the first generation of {pair.prefill.url} and {pair.decode.url} failed: ")
        assert "no memory" in problem
        assert (await client.http.get("/readiness")).status_code == 503
        pair.decode.generate = well
        await client.supervisor._probe_all()
        await eventually(client, "/readiness", 200)
        assert (await client.http.get("/health_generate")).json() == {"status": "ok", "models": ["fake"]}
        await client.settled()


@aio
async def test_one_pair_that_fails_later_leaves_the_router_ready() -> None:
    async def fails(call: Call) -> None:
        await call.send(whole(b"{}", 500))

    good, bad = FakePair(), FakePair()
    bad.decode.generate = fails
    async with serving(good, health=WARM) as client, started(bad):
        await eventually(client, "/readiness", 200)
        added = await client.post("/workers", {"url": bad.decode.url, "worker_type": "decode"})
        assert added.status_code == 202
        await until(lambda: len(bad.decode.requests) == 1, "it was asked to generate")
        assert (await client.http.get("/readiness")).status_code == 200
        for _ in range(4):
            assert (await client.post("/generate", {"text": "x"})).status_code == 200
        assert len(bad.decode.requests) == 1, "it gets nothing before it has generated something"
        await client.settled()


# Health


@aio
async def test_thresholds() -> None:
    pair = FakePair()
    async with started(pair):
        worker = Worker(pair.decode.url, "decode", health_settings=HealthSettings(interval_secs=1e-9))
        states = []
        for well in (True, False, False, True, False, False, False, True, False, True, True):
            pair.decode.well = well
            await worker.probe()
            states.append(worker.health.healthy)
        assert states == [True] * 6 + [False] * 4 + [True]
        assert worker.health.tracker.outcomes == {"success": 5, "failure": 6}
        worker.origin.close()


@aio
async def test_a_worker_on_its_way_back_says_so() -> None:
    pair = FakePair()
    async with started(pair):
        worker = Worker(
            pair.decode.url, "decode", health_settings=HealthSettings(interval_secs=1e-9, failure_threshold=1)
        )
        for well in (True, False, True):
            pair.decode.well = well
            await worker.probe()
        assert worker.health.problem == f"{pair.decode.url} is back; 1 of 2 probes of it were good."
        worker.origin.close()


@aio
async def test_a_health_endpoint_of_ones_own_and_none() -> None:
    pair = FakePair()
    pair.decode.health, pair.decode.well = "/ping", False
    async with started(pair):
        for settings, healthy, asked in (
            (HealthSettings(interval_secs=1e-9, endpoint="/ping", failure_threshold=1), False, 1),
            (HealthSettings(disable_checks=True), True, 0),
        ):
            worker = Worker(pair.decode.url, "decode", health_settings=settings)
            before = len(pair.decode.server.to("/ping"))
            await worker.probe()
            await worker.probe()
            assert worker.health.healthy == healthy
            assert len(pair.decode.server.to("/ping")) - before == asked
            worker.origin.close()


@pytest.mark.parametrize("told", [8998, None])
def test_a_bootstrap_port_is_asked_for(told: int | None) -> None:
    @aio
    async def test() -> None:
        pair = FakePair()
        pair.prefill.info["disaggregation_bootstrap_port"] = told
        async with started(pair):
            worker = Worker(pair.prefill.url, "prefill")
            await worker.probe()
            assert (worker.health.healthy, worker.bootstrap_port) == (told is not None, told)
            if told is None:
                assert "give it after the address" in (worker.health.problem or "")
            worker.origin.close()

    test()


# Adding and removing


@aio
async def test_a_worker_is_added_and_removed() -> None:
    pair, other = FakePair(), FakePair()
    other.rooms = pair.rooms
    async with serving(pair, policy="round_robin", health=WARM) as client, started(other):
        await eventually(client, "/readiness", 200)
        added = await client.post("/workers", {"url": other.decode.url, "worker_type": "decode"})
        assert added.status_code == 202
        where = added.headers["location"]
        assert where == added.json()["location"] == f"/workers/{added.json()['worker_id']}"
        await until(lambda: client.registry.workers[-1].health.usable, "it may get requests")
        told = (await client.http.get(where)).json()
        assert (told["url"], told["worker_type"], told["generated"]) == (other.decode.url, "decode", True)
        for _ in range(4):
            assert (await client.post("/generate", {"text": "x"})).status_code == 200
        assert len(other.decode.requests) == 1 + 2
        again = await client.post("/workers", {"url": other.decode.url, "worker_type": "decode"})
        assert (again.status_code, again.json()["code"]) == (409, "WORKER_ALREADY_EXISTS")
        await client.settled()
        assert (await client.http.delete(where)).status_code == 202
        await eventually(client, where, 404)
        assert (await client.http.delete(where)).status_code == 404
        for _ in range(4):
            assert (await client.post("/generate", {"text": "x"})).status_code == 200
        assert len(other.decode.requests) == 3
        assert (await client.http.get("/workers")).json()["total"] == 2
        await until(lambda: not other.decode.server.open, "no connection to it is left")


@aio
async def test_a_worker_that_is_removed_ends_its_streams() -> None:
    release = asyncio.Event()
    pair, other = FakePair(), FakePair()
    other.rooms = pair.rooms

    async def decode(call: Call) -> None:
        pair.room(call).set()
        await call.stream(chat_event("one "))
        await release.wait()
        await call.event(chat_event("two", "stop"))
        await call.done()

    pair.decode.generate = decode
    async with serving(pair) as client, started(other):
        streaming = asyncio.create_task(client.post("/v1/chat/completions", {**CHAT, "stream": True}))
        await until(lambda: len(pair.decode.requests) == 1, "it streams")
        await client.post("/workers", {"url": other.decode.url, "worker_type": "decode"})
        await until(lambda: client.registry.workers[-1].health.usable, "there is another")
        number = (await listed(client))[pair.decode.url]["id"]
        gone = await client.http.delete(f"/workers/{number}")
        assert gone.json()["message"] == "the worker gets no new requests; it is gone when its 1 are over"
        assert (await client.http.delete(f"/workers/{number}")).status_code == 202, "harmless twice"
        for _ in range(5):
            assert (await client.post("/generate", {"text": "x"})).status_code == 200
        assert len(pair.decode.requests) == 1, "nothing new for the one that goes"
        assert (await listed(client))[pair.decode.url]["draining"]
        again = await client.post("/workers", {"url": pair.decode.url, "worker_type": "decode"})
        assert "is being removed; wait until it is gone" in again.json()["error"]["message"]
        release.set()
        answer = await within(3.0, streaming)
        assert "one " in answer.text
        assert answer.text.endswith("data: [DONE]\n\n")
        assert pair.decode.aborted == []
        await eventually(client, f"/workers/{number}", 404)
        await client.settled()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "`url` must be the worker's address"),
        ({"url": 7, "worker_type": "decode"}, "`url` must be the worker's address"),
        ({"url": "http://h:1", "worker_type": "best"}, "`worker_type` must be prefill, decode, or regular"),
        ({"url": "http://h:1", "worker_type": ["decode"]}, "`worker_type` must be prefill, decode, or regular"),
        ({"url": "http://h:1", "bootstrap_port": 3}, "`bootstrap_port` must be a port of a prefill"),
        ({"url": "http://h:1", "worker_type": "decode", "weight": 3}, "`weight` is not known here"),
        ({"url": "http://h:1", "worker_type": "decode", "bootstrap_port": 3}, "`bootstrap_port` must be a port"),
        ({"url": "http://h:1", "worker_type": "prefill", "bootstrap_port": 0}, "`bootstrap_port` must be a port"),
        ({"url": "http://h:1", "worker_type": "prefill", "bootstrap_port": True}, "`bootstrap_port` must be a port"),
        (
            {"url": "http://h:1", "worker_type": "decode", "api_key": "a\r\nb: c"},
            "`api_key` must be a string of printable",
        ),
        ({"url": "http://h:1/elsewhere", "worker_type": "decode"}, "is not a worker's address"),
        ({"url": "http://h:1?to=elsewhere", "worker_type": "decode"}, "is not a worker's address"),
        ({"url": "ftp://h:1", "worker_type": "decode"}, "is not a worker's address"),
        ({"url": "http://user@h:1", "worker_type": "decode"}, "names a user"),
        ({"url": "http://[::1", "worker_type": "decode"}, "is not a worker's address"),
        ({"url": "", "worker_type": "decode"}, "is not a worker's address"),
    ],
)
def test_wrong_workers(body: dict[str, Any], words: str) -> None:
    @aio
    async def test() -> None:
        async with serving(FakePair()) as client:
            answer = await client.post("/workers", body)
            assert answer.status_code == 400
            assert words in answer.json()["error"]["message"]
            assert len(client.registry.workers) == 2

    test()


def test_an_address_is_there_once_for_a_role() -> None:
    registry = Registry([Worker("http://h:1", "decode")])
    with pytest.raises(Conflict, match=r"^the worker http://h:1 is here as "):
        registry.add(Worker("h:1/", "decode"))


@aio
async def test_asking_the_workers() -> None:
    """Caches, loads, model information and tokens."""

    async def other(call: Call) -> None:
        if call.path == "/get_load":
            await call.answer([{"num_tokens": 3}, {"num_tokens": 4}])
        else:
            await call.send(whole(b"Cache flushed."))

    async def refuses(call: Call) -> None:
        await call.send(whole(b"", 500))

    pair = FakePair()
    pair.decode.generate, pair.prefill.generate = other, refuses
    async with serving(pair) as client:
        loads = (await client.http.get("/get_loads")).json()["workers"]
        assert loads == [{"worker": pair.prefill.url, "load": -1}, {"worker": pair.decode.url, "load": 7}]
        flushed = await client.post("/flush_cache", {})
        assert flushed.status_code == 502
        told = flushed.json()
        assert (told["workers_flushed"], told["total_workers"], told["total_http_workers"]) == (1, 2, 2)
        error = f"{pair.prefill.url} answered /flush_cache with 500."
        assert (told["successful"], told["failed"]) == (
            [pair.decode.url],
            [{"worker": pair.prefill.url, "error": error}],
        )
        assert flushed.json()["message"] == f"{pair.prefill.url} did not flush"
        pair.prefill.generate = other
        assert (await client.post("/flush_cache", {})).json()["status"] == "success"
        for path in ("/get_model_info", "/model_info"):
            assert (await client.http.get(path)).json() == {"model_path": "fake", "is_generation": True}
        assert (await client.http.get("/get_server_info")).json()["models"] == ["fake"]
        assert (await client.post("/v1/tokenize", {"prompt": ["ab"]})).json() == {"tokens": [[97, 98]]}
        assert (await client.post("/v1/detokenize", {"tokens": [97, 98]})).json() == {"text": "ab"}
