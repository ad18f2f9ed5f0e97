"""What the processes of one router say to each other.

They are apps in one process, each with its own port and private socket; fakes stand for processes that hang or lie.
Real processes are tested in test_processes.py.
"""

import asyncio
import threading
from pathlib import Path
from urllib.parse import quote

import orjson
import pytest

from router.server.processes.merged_responses import merge_metrics
from router.server.processes.peers import Peers
from router.server.settings import ServerSettings
from router.workers.worker import Worker
from tests.router.support.aio import aio, run, until
from tests.router.support.fakes import Call, FakePair
from tests.router.support.serving import together


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
async def test_what_a_removal_has_for_a_body_does_not_matter(tmp_path: Path) -> None:
    """A process that begins later must hear of it."""
    pair = FakePair()
    async with together(pair, folder=tmp_path) as routers:
        (*_, worker) = (await routers[0].http.get("/workers")).json()["workers"]
        answer = await routers[0].http.request("DELETE", f"/workers/{worker['id']}", content=b"\xff" * 70_000)
        assert answer.status_code == 202
        for router in routers:
            assert [each.url for each in router.app.registry.workers] == [pair.prefill.url]
        later = Peers(1, [tmp_path / "0", tmp_path / "1"])
        (told,) = await later.get_from_others("/internal/changes")
        assert orjson.loads(told) == [["DELETE", f"/workers/{worker['id']}", ""]]
        later.close()


@aio
async def test_a_worker_that_went_and_came_back_is_there_after_a_restart(tmp_path: Path) -> None:
    """Who begins again hears of both in one moment."""

    async def other(call: Call) -> None:
        url = pair.decode.url
        there = orjson.dumps({"url": url, "worker_type": "decode"}).decode()
        await call.answer([["DELETE", f"/workers/{Worker(url, 'decode').id}", ""], ["POST", "/workers", there]])

    pair = FakePair()
    async with together(pair, folder=tmp_path, count=1, fakes=[other], again=True) as (router,):
        await until(lambda: len(router.app.registry.pairs()) == 1, "the worker was looked at, and stays")


def test_who_begins_again_believes_the_one_that_knows_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others may have died too and know nothing yet, or hang."""

    async def knows_nothing(call: Call) -> None:
        await call.answer([])

    async def hangs(call: Call) -> None:
        await call.gone()

    async def knows(call: Call) -> None:
        await call.answer([["DELETE", f"/workers/{Worker(pair.decode.url, 'decode').id}", ""]])

    async def test() -> None:
        fakes = [knows_nothing, hangs, knows]
        async with together(pair, folder=tmp_path, count=1, fakes=fakes, again=True) as (router,):
            assert [worker.role for worker in router.app.registry.workers] == ["prefill"]

    monkeypatch.setattr("router.server.processes.peers.CATCH_UP_TIMEOUT", 0.2)
    pair = FakePair()
    run(test)


@aio
async def test_a_worker_that_goes_is_told_of_until_it_is_gone_everywhere(tmp_path: Path) -> None:
    """Who waits for 404 before they stop it must not cut a request off that another process has there."""
    end = asyncio.Event()

    async def decode(call: Call) -> None:
        pair.room(call).set()
        await call.stream()
        await end.wait()
        await call.done()

    pair = FakePair()
    pair.decode.generate = decode
    async with together(pair, folder=tmp_path) as (first, second):
        request = asyncio.create_task(second.post("/generate", {"text": "x", "stream": True}))
        await until(lambda: len(pair.decode.requests) == 1, "decode was asked")
        path = f"/workers/{Worker(pair.decode.url, 'decode').id}"
        assert (await first.http.delete(path)).status_code == 202
        await until(lambda: len(first.app.registry.workers) == 1, "it is gone in the first process")
        for router in (first, second):
            told = (await router.http.get(path)).json()
            assert (told["load"], told["draining"]) == (1, True)
            all_told = (await router.http.get("/workers")).json()
            assert {each["id"] for each in all_told["workers"]} > {told["id"]}
            assert (all_told["total"], all_told["stats"]) == (2, {"prefill_count": 1, "decode_count": 1})
        end.set()
        assert (await request).status_code == 200
        await until(lambda: len(second.app.registry.workers) == 1, "it is gone in the second process")
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
            for method, path in (("GET", "/metrics"), ("GET", "/readiness"), ("GET", "/workers"), ("POST", "/workers")):
                answer = await router.http.request(method, path)
                assert answer.status_code == 503
                assert answer.json()["error"]["message"] == "no process of the router answered within 0 s; try again."

    for patience in ("COLLECT_TIMEOUT", "FORWARD_TIMEOUT"):
        monkeypatch.setattr(f"router.server.processes.peers.{patience}", 0.0)
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
        await (call.answer({}, 409) if refuses else call.gone())

    async def test() -> None:
        async with together(FakePair(), folder=tmp_path, count=1, fakes=[other]) as (router,):
            worker = {"url": "http://127.0.0.1:1", "worker_type": "decode"}
            assert (await router.post("/workers", worker)).status_code == 202

    monkeypatch.setattr("router.server.processes.peers.FORWARD_TIMEOUT", 1.0)
    run(test)
    (line,) = [each.getMessage() for each in caplog.records if each.name == "router.server.processes.peers"]
    why = "refused with 409" if refuses else "did not answer"
    assert line == f"process 1 {why} to POST /workers, which others follow; end it, and the next one will"
