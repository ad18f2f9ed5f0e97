"""What the processes of one router say to each other.

They are apps in one process, each with its own port and private socket; fakes stand for processes that hang or lie.
Real processes are tested in test_processes.py.
"""

import asyncio
import threading
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from router.endpoints.not_offered import not_offered
from router.server.processes.merged_responses import merge_metrics
from router.server.processes.peers import Peers
from router.server.processes.worker_changes import CHANGES_PATH
from router.server.settings import ServerSettings
from router.workers.health import HealthSettings
from router.workers.worker import Worker
from tests.router.support.aio import aio, run, until
from tests.router.support.fakes import Call, FakePair, FakeWorker, started
from tests.router.support.serving import Serving, together


def run_of(owner: int, name: str = "run") -> str:
    """A run that belongs to one of two processes."""
    peers = Peers(0, [Path("0"), Path("1")])
    return next(each for each in (f"{name}{number}" for number in range(99)) if peers.owner(each) == owner)


@pytest.mark.parametrize("name", ["a b", "ä?#%", "x HTTP\r\nx-moa-client: y"])
def test_a_path_stays_one(name: str, tmp_path: Path) -> None:
    """As it was decoded it would be an error with a space in it, and with a line break a header of the client's own."""
    paths: list[str] = []

    async def other(call: Call) -> None:
        paths.append(call.path)
        await call.answer({})

    async def test() -> None:
        path = f"/runs/{quote(run_of(1, name), safe='')}"
        async with together(FakePair(), folder=tmp_path, count=1, fakes=[other]) as (first,):
            assert (await first.http.get(path)).json() == {}
        assert paths == [path]

    run(test)


@aio
async def test_a_process_that_replaces_one_refuses_nobody(tmp_path: Path) -> None:
    """Its pair has generated for the others: requests do not wait for a generation of this one's own."""
    pair, begin = FakePair(), asyncio.Event()
    decoded = pair.decode.generate

    async def generate(call: Call) -> None:
        if call.json.get("text") == "x" or await call.waits_for(begin):
            await decoded(call)

    pair.decode.generate = generate
    health = HealthSettings(probe_interval_secs=60)
    async with together(pair, folder=tmp_path, count=1, again=True, health=health) as (router,):
        answer = await router.post("/generate", {"text": "x", "sampling_params": {"max_new_tokens": 2}})
        assert answer.status_code == 200, answer.text
        assert router.registry.cold_pairs(), "its own first generation is still under way"
        begin.set()


@aio
async def test_what_a_removal_has_for_a_body_does_not_matter(tmp_path: Path) -> None:
    """A process that begins later must hear of it."""
    pair = FakePair()
    async with together(pair, folder=tmp_path) as routers:
        (*_, worker) = (await routers[0].http.get("/workers")).json()["workers"]
        answer = await routers[0].http.request("DELETE", f"/workers/{worker['id']}", content=b"\xff" * 70_000)
        assert answer.status_code == 202
        for router in routers:
            await until(lambda r=router: urls_of(r) == [pair.prefill.url], "it is gone")  # type: ignore[misc]
        later = Peers(1, [tmp_path / "0", tmp_path / "1"])
        (told,) = await later.get_from_others(CHANGES_PATH)
        ((clock, _, worker_id, body),) = orjson.loads(told)
        assert (clock, worker_id, body) == (1, worker["id"], None)
        later.close()


@aio
async def test_a_worker_that_went_and_came_back_is_there_after_a_restart(tmp_path: Path) -> None:
    """Only its last change counts."""

    async def other(call: Call) -> None:
        await call.answer([added(pair.decode, clock=2)])

    pair = FakePair()
    async with together(pair, folder=tmp_path, count=1, fakes=[other], again=True) as (router,):
        await until(lambda: len(router.registry.pairs()) == 1, "the worker was probed, and stays")


def test_who_begins_again_believes_all_that_know_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others may have died too and know nothing yet, hang, or know only a part, in whatever order."""

    async def knows_nothing(call: Call) -> None:
        await call.answer([])

    async def hangs(call: Call) -> None:
        await call.gone()

    async def speaks_otherwise(call: Call) -> None:
        await call.answer([["DELETE", "x"]])

    async def knew(call: Call) -> None:
        await call.answer([added(pair.decode, clock=1), removed(pair.prefill, clock=2)])

    async def knows(call: Call) -> None:
        await call.answer([removed(pair.decode, clock=3)])

    async def test() -> None:
        fakes = [knows_nothing, hangs, speaks_otherwise, knows, knew]
        async with together(pair, folder=tmp_path, count=1, fakes=fakes, again=True) as (router,):
            assert router.registry.workers == []

    monkeypatch.setattr("router.server.processes.peers.CATCH_UP_TIMEOUT", 1.0)
    pair = FakePair()
    run(test)


def urls_of(router: Serving) -> list[str]:
    return [worker.url for worker in router.registry.workers]


def added(worker: FakeWorker, clock: int, **settings: Any) -> list[Any]:
    """The change that an operator added a worker."""
    body = {"url": worker.url, "worker_type": worker.role, **settings}
    return [clock, "x", Worker(worker.url, worker.role).id, body]


def removed(worker: FakeWorker, clock: int) -> list[Any]:
    """The change that an operator removed a worker."""
    return [clock, "x", Worker(worker.url, worker.role).id, None]


@aio
async def test_a_process_that_was_silent_follows_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It missed that one worker was added and another removed, and asks for that by itself."""
    monkeypatch.setattr("router.server.processes.worker_changes.SYNC_INTERVAL", 0.05)
    first_pair, second_pair = FakePair(), FakePair()
    async with started(second_pair), together(first_pair, folder=tmp_path, count=3) as routers:
        silent = routers[1]
        deaf = next(each for each in silent.routes.of_path(CHANGES_PATH) if each.method == "POST")
        object.__setattr__(deaf, "handler", not_offered("it is deaf"))
        for fake in (second_pair.prefill, second_pair.decode):
            body = added(fake, clock=0)[3]
            assert (await routers[0].post("/workers", body)).status_code == 202
        gone = Worker(first_pair.decode.url, "decode").id
        assert (await routers[2].http.delete(f"/workers/{gone}")).status_code == 202
        expected = {first_pair.prefill.url, second_pair.prefill.url, second_pair.decode.url}
        for router in routers:
            await until(lambda r=router: set(urls_of(r)) == expected, "all have the same workers")  # type: ignore[misc]


@aio
async def test_all_processes_hear_of_new_settings(tmp_path: Path) -> None:
    """Also of a worker that the command line names, and of a key, which is told to nobody else."""
    pair = FakePair()
    async with together(pair, folder=tmp_path, count=3) as routers:
        where = f"/workers/{Worker(pair.decode.url, 'decode').id}"
        body = {"cost": 2, "labels": {"a": "b"}, "api_key": "its-own", "health": {"timeout_secs": 7}}
        assert (await routers[0].http.patch(where, json=body)).status_code == 202
        for router in routers:
            worker = router.registry.workers[1]
            assert (worker.config.cost, worker.config.labels, worker.health.settings.timeout_secs) == (2, {"a": "b"}, 7)
            assert worker.api_key == "its-own"
            assert not worker.health.draining
            assert "its-own" not in (await router.http.get("/workers")).text
        assert (await routers[1].http.put(where, json={"url": pair.decode.url, "priority": 1})).status_code == 202
        for router in routers:
            worker = router.registry.workers[1]
            assert (worker.config.cost, worker.config.priority, worker.api_key) == (1, 1, None)
            assert (await router.post("/generate", {"text": "x"})).status_code == 200
            await router.settled()


@pytest.mark.parametrize("seed", range(5))
def test_processes_agree_whatever_order_they_hear_in(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers are added and removed through all processes at once; in the end all have the same ones."""

    async def test() -> None:
        random = Random(seed)
        pairs = [FakePair() for _ in range(3)]
        async with started(*pairs), together(FakePair(), folder=tmp_path, count=3) as routers:
            fakes = [fake for pair in pairs for fake in (pair.prefill, pair.decode)]

            async def change() -> None:
                fake, router = random.choice(fakes), random.choice(routers)
                if random.random() < 0.5:
                    await router.post("/workers", added(fake, 0, bootstrap_port=_port(fake, random))[3])
                else:
                    await router.http.delete(f"/workers/{Worker(fake.url, fake.role).id}")

            for _ in range(10):
                await asyncio.gather(*(change() for _ in range(4)))

            def settings(router: Serving) -> set[Any]:
                workers = router.registry.workers
                return {
                    (each.url, each.health.draining, each.bootstrap_port if each.role == "prefill" else 0)
                    for each in workers
                }

            await until(lambda: len({frozenset(settings(each)) for each in routers}) == 1, "all have the same workers")

    monkeypatch.setattr("router.server.processes.worker_changes.SYNC_INTERVAL", 0.02)
    run(test)


@aio
async def test_old_removals_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.server.processes.worker_changes.MAX_REMOVALS", 2)
    async with together(FakePair(), folder=tmp_path) as (first, second):
        for number in range(1, 6):
            body = {"url": f"http://127.0.0.1:{number}", "worker_type": "decode"}
            worker_id = (await first.post("/workers", body)).json()["worker_id"]
            if number != 2:
                assert (await first.http.delete(f"/workers/{worker_id}")).status_code == 202
        asking = Peers(2, [tmp_path / "0", tmp_path / "1", tmp_path / "2"])
        for told in await asking.get_from_others(CHANGES_PATH):
            ports = [body and body["url"][-1] for *_, body in orjson.loads(told)]
            assert sorted(ports, key=str) == ["2", None, None]
        asking.close()
        await until(lambda: len(urls_of(second)) == 3, "what was added stays")


def _port(fake: FakeWorker, random: Random) -> int | None:
    return random.randint(1, 3) if fake.role == "prefill" else None


def streams_until() -> tuple[FakePair, asyncio.Event]:
    """A pair whose streams go on until the event."""
    pair, end = FakePair(), asyncio.Event()

    async def decode(call: Call) -> None:
        pair.room(call).set()
        await call.stream()
        await end.wait()
        await call.done()

    pair.decode.generate = decode
    return pair, end


@aio
async def test_a_worker_that_is_added_again_while_a_process_still_drains_it(tmp_path: Path) -> None:
    """That process takes it back at once: its requests may last for long."""
    pair, end = streams_until()
    async with together(pair, folder=tmp_path) as (first, second):
        request = asyncio.create_task(second.post("/generate", {"text": "x", "stream": True}))
        await until(lambda: len(pair.decode.requests) == 1, "decode was asked")
        assert (await first.http.delete(f"/workers/{Worker(pair.decode.url, 'decode').id}")).status_code == 202
        await until(lambda: len(first.registry.workers) == 1, "it is gone in the first process")
        assert [each.health.draining for each in second.registry.workers] == [False, True]
        assert (await first.post("/workers", added(pair.decode, 0)[3])).status_code == 202
        assert [each.health.draining for each in second.registry.workers] == [False, False]
        end.set()
        assert (await request).status_code == 200


@aio
async def test_readiness_asks_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs gets connections too, and answers none of them."""
    ready = True

    async def other(call: Call) -> None:
        await (call.answer({"status": "ready"}) if ready else call.gone())

    monkeypatch.setattr("router.server.processes.peers.COLLECT_TIMEOUT", 0.5)
    async with together(FakePair(), folder=tmp_path, count=1, fakes=[other]) as (router,):
        assert (await router.http.get("/readiness")).status_code == 200
        ready = False
        answer = await router.http.get("/readiness")
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == "process 1 of the router does not answer; try again."
        assert (await router.http.get("/workers")).status_code == 200, "what can be told is told"


@pytest.mark.parametrize("listener", [None, ("127.0.0.1", None), ("/elsewhere", None)], ids=str)
def test_what_comes_from_nowhere_is_no_process(listener: Any, tmp_path: Path) -> None:
    """It gets what a client without the key gets, and on a metrics port, which it may be, only metrics."""

    async def ask(router: Serving, path: str, method: str = "GET") -> int:
        told = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"[]"}

        async def send(message: Any) -> None:
            told.append(message)

        headers = [(b"x-moa-client", b"somebody")]
        scope = {"type": "http", "method": method, "path": path, "headers": headers, "server": listener}
        await router.app(scope, receive, send)
        return int(told[0]["status"])

    async def test() -> None:
        for port in (None, 9):
            server = ServerSettings(api_key="secret", prometheus_port=port)
            async with together(FakePair(), folder=tmp_path / str(port), server=server) as (router, _):
                assert await ask(router, CHANGES_PATH) == 404
                assert await ask(router, CHANGES_PATH, "POST") == 404
                assert await ask(router, "/workers") == (401 if port is None else 404)
                assert await ask(router, "/liveness") == (200 if port is None else 404)

    for each in ("None", "9"):
        (tmp_path / each).mkdir()
    run(test)


@aio
async def test_a_worker_that_goes_is_told_of_until_it_is_gone_everywhere(tmp_path: Path) -> None:
    """Who waits for 404 before they stop it must not cut a request off that another process has there."""
    pair, end = streams_until()
    async with together(pair, folder=tmp_path) as (first, second):
        request = asyncio.create_task(second.post("/generate", {"text": "x", "stream": True}))
        await until(lambda: len(pair.decode.requests) == 1, "decode was asked")
        path = f"/workers/{Worker(pair.decode.url, 'decode').id}"
        assert (await first.http.delete(path)).status_code == 202
        await until(lambda: len(first.registry.workers) == 1, "it is gone in the first process")
        for router in (first, second):
            told = (await router.http.get(path)).json()
            assert (told["load"], told["draining"]) == (1, True)
            all_told = (await router.http.get("/workers")).json()
            assert {each["id"] for each in all_told["workers"]} > {told["id"]}
            assert (all_told["total"], all_told["stats"]) == (
                2,
                {"prefill_count": 1, "decode_count": 1, "regular_count": 0},
            )
        end.set()
        assert (await request).status_code == 200
        await until(lambda: len(second.registry.workers) == 1, "it is gone in the second process")
        for router in (first, second):
            assert (await router.http.get(path)).status_code == 404
            assert (await router.http.get("/workers")).json()["total"] == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("leaves", [False, True])
def test_a_process_that_hangs_holds_nobody(
    method: str, leaves: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for a page of a run, or to answer an agent; its client leaves, or is told in time."""
    asked = asyncio.Event()
    left = asyncio.Event()

    async def hangs(call: Call) -> None:
        asked.set()
        await call.gone()
        left.set()

    async def test() -> None:
        run = run_of(1)
        path, body = (f"/runs/{run}", None) if method == "GET" else ("/generate", {"run": run, "text": "x"})
        server = ServerSettings(request_timeout_secs=0.1)
        async with together(FakePair(), folder=tmp_path, count=1, fakes=[hangs], server=server) as (router,):
            request = asyncio.create_task(router.http.request(method, path, json=body))
            await asked.wait()
            if leaves:
                request.cancel()
            else:
                answer = await request
                assert answer.status_code == 503
                assert answer.json()["error"]["message"] == "process 1 of the router, which has this run, is not there."
            await until(left.is_set, "the other process is told that nobody waits")

    for patience in ("server.processes.process_routing.FORWARD_TIMEOUT", "endpoints.inference.ERROR_EVENT_TIMEOUT"):
        monkeypatch.setattr(f"router.{patience}", 60.0 if leaves else 0.1)
    run(test)


def test_nobody_answers_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the process itself: it is about to end, or something has held it up."""

    async def test() -> None:
        async with together(FakePair(), folder=tmp_path) as (router, _):
            for method, path in (("GET", "/metrics"), ("GET", "/readiness"), ("GET", "/workers")):
                answer = await router.http.request(method, path)
                assert answer.status_code == 503
                assert answer.json()["error"]["message"] == "no process of the router answered within 0 s; try again."

    monkeypatch.setattr("router.server.processes.peers.COLLECT_TIMEOUT", 0.0)
    run(test)


def test_metrics_are_merged_beside_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight processes that takes a tenth of a second."""
    threads: list[threading.Thread] = []

    def merge(texts: list[bytes]) -> bytes:
        threads.append(threading.current_thread())
        return merge_metrics(texts)

    async def test() -> None:
        async with together(FakePair(), folder=tmp_path) as (router, _):
            assert "smg_worker_health" in (await router.http.get("/metrics")).text
        assert threading.main_thread() not in threads
        assert len(threads) == 1

    monkeypatch.setattr("router.server.processes.process_routing.merge_metrics", merge)
    run(test)


@pytest.mark.parametrize("refuses", [False, True])
def test_a_process_that_does_not_follow_is_complained_of(
    refuses: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator hears of the change as done, and could not know."""

    async def other(call: Call) -> None:
        await (call.answer({}, 500) if refuses else call.gone())

    async def test() -> None:
        async with together(FakePair(), folder=tmp_path, count=1, fakes=[other]) as (router,):
            worker = {"url": "http://127.0.0.1:1", "worker_type": "decode"}
            assert (await router.post("/workers", worker)).status_code == 202

    monkeypatch.setattr("router.server.processes.peers.COLLECT_TIMEOUT", 1.0)
    run(test)
    (line,) = [each.getMessage() for each in caplog.records if each.name.endswith("worker_changes")]
    assert line == "process 1 does not answer; it follows a change of the workers once it does."
