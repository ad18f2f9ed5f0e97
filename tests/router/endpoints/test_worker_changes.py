"""Workers whose settings an operator changes while they serve: POST with all fields, PUT, PATCH."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from router.workers.health import HealthSettings
from tests.router.support.aio import aio, run, until
from tests.router.support.fakes import Call, FakePair, FakeServer, whole
from tests.router.support.serving import Serving, serving

CHAT = "/v1/chat/completions"
RARELY = HealthSettings(probe_interval_secs=1000, skip_warm_up=True)
ALL: dict[str, Any] = {
    "labels": {"env": "test", "empty": ""},
    "priority": 100,
    "cost": 2.5,
    "api_key": "its-own",
    "health": {"timeout_secs": 7, "check_interval_secs": 8.5, "success_threshold": 1, "failure_threshold": 2},
}


class Lists(FakeServer):
    """A server of the models `a` and `b` that says what it was asked for."""

    def __init__(self) -> None:
        super().__init__(self._handle)

    async def _handle(self, call: Call) -> None:
        if call.path == "/v1/models":
            await call.answer({"data": [{"id": "a"}, {"id": "b"}]})
        elif call.path == CHAT:
            await call.answer({"asked_for": call.json["model"], "key": call.headers.get("authorization")})
        else:
            await call.send(whole(b"", 404))


async def add(router: Serving, url: str, **more: Any) -> str:
    """Add a worker and wait until it serves; returns its path."""
    answer = await router.post("/workers", {"url": url, **more})
    assert answer.status_code == 202, answer.text
    await until(lambda: router.registry.workers[-1].health.usable, "it may get requests")
    return str(answer.json()["location"])


async def ask(router: Serving, model: str) -> Any:
    answer = await router.post(CHAT, {"model": model, "messages": []})
    return answer.json() if answer.is_success else answer.status_code


def noted(shown: dict[str, Any]) -> dict[str, Any]:
    return {name: shown[name] for name in ("labels", "priority", "cost", "model_id")}


@aio
async def test_a_worker_is_added_with_all_that_the_other_routers_take() -> None:
    async with Lists() as server, serving(health=RARELY) as router:
        where = await add(router, server.url, **ALL)
        shown = (await router.http.get(where)).json()
        assert noted(shown) == {"labels": ALL["labels"], "priority": 100, "cost": 2.5, "model_id": "a"}
        assert "its-own" not in (await router.http.get("/workers")).text, "its key is told nowhere"
        worker = router.registry.workers[0]
        assert (worker.health.settings.timeout_secs, worker.health.settings.interval_secs) == (7, 8.5)
        assert (worker.health.settings.success_threshold, worker.health.settings.failure_threshold) == (1, 2)
        assert worker.health.settings.probe_interval_secs == 1000, "the rest is the router's"
        assert await ask(router, "a") == {"asked_for": "a", "key": "Bearer its-own"}


@aio
async def test_without_them_the_usual_is_shown() -> None:
    async with Lists() as server, serving(health=RARELY) as router:
        where = await add(router, server.url)
        shown = (await router.http.get(where)).json()
        assert noted(shown) == {"labels": {}, "priority": 50, "cost": 1.0, "model_id": "a"}
        stats = (await router.http.get("/workers")).json()["stats"]
        assert stats == {"prefill_count": 0, "decode_count": 0, "regular_count": 1}


@pytest.mark.parametrize(("model", "own_name"), [("b", "b"), ("alias", "a")])
def test_a_workers_model_is_the_only_one_it_is_asked_for(model: str, own_name: str) -> None:
    """One of its own, or another name for its first."""

    async def test() -> None:
        async with Lists() as server, serving(health=RARELY) as router:
            where = await add(router, server.url, model_id=model)
            assert (await ask(router, model))["asked_for"] == own_name
            assert await ask(router, "c") == 404
            assert router.registry.models() == [model]
            await router.http.put(where, json={"url": server.url})
            await until(lambda: router.registry.models() == ["a", "b"], "it has its own models again")
            assert (await ask(router, "b"))["asked_for"] == "b"

    run(test)


@aio
async def test_patch_changes_what_it_names() -> None:
    async with Lists() as server, serving(health=RARELY) as router:
        where = await add(router, server.url, labels={"a": "b"}, priority=7, health={"timeout_secs": 7})
        for body in ({"priority": 100, "cost": 2.5, "labels": {"env": "test"}}, {}, {"priority": None, "health": None}):
            answer = await router.http.patch(where, json=body)
            assert (answer.status_code, answer.json()["status"]) == (202, "accepted")
            shown = noted((await router.http.get(where)).json())
            assert shown == {"labels": {"env": "test"}, "priority": 100, "cost": 2.5, "model_id": "a"}
        await router.http.patch(where, json={"health": {"failure_threshold": 9}, "api_key": "new"})
        worker = router.registry.workers[0]
        assert (worker.health.settings.timeout_secs, worker.health.settings.failure_threshold) == (7, 9)
        assert (await ask(router, "a"))["key"] == "Bearer new"


@aio
async def test_put_replaces_all_and_keeps_what_is_under_way() -> None:
    release = asyncio.Event()
    async with Lists() as server, serving(health=RARELY) as router:
        where = await add(router, server.url, **ALL, model_id="b")
        handle = server.handler

        async def waits(call: Call) -> None:
            if call.path == CHAT and not release.is_set():
                await release.wait()
            await handle(call)

        server.handler = waits
        running = asyncio.create_task(ask(router, "b"))
        await until(lambda: len(server.to(CHAT)) == 1, "it is under way")
        looks = len(server.to("/v1/models"))
        answer = await router.http.put(where, json={"url": f"{server.url}/", "cost": 3})
        assert (answer.status_code, answer.json()["worker_id"]) == (202, where.rpartition("/")[2])
        await until(lambda: len(server.to("/v1/models")) > looks, "its models are asked for again")
        await until(lambda: router.registry.models() == ["a", "b"], "they are known")
        shown = (await router.http.get(where)).json()
        assert noted(shown) == {"labels": {}, "priority": 50, "cost": 3.0, "model_id": "a"}
        worker = router.registry.workers[0]
        assert (worker.load.requests, worker.health.settings) == (1, RARELY)
        release.set()
        assert await running == {"asked_for": "b", "key": "Bearer its-own"}
        assert await ask(router, "b") == {"asked_for": "b", "key": None}


@aio
async def test_halves_of_pairs_keep_their_type() -> None:
    async with serving(FakePair()) as router:
        prefill, decode = router.registry.workers
        for worker, body in ((prefill, {"bootstrap_port": 7}), (decode, {"worker_type": "decode"}), (decode, {})):
            answer = await router.http.put(f"/workers/{worker.id}", json={"url": worker.url, **body})
            assert answer.status_code == 202, answer.text
        assert (prefill.bootstrap_port, prefill.role, decode.role) == (7, "prefill", "decode")
        await router.http.patch(f"/workers/{prefill.id}", json={"cost": 2})
        assert (prefill.bootstrap_port, prefill.config.bootstrap_port) == (7, 7)
        for kind in ("prefill", "regular"):
            answer = await router.http.put(f"/workers/{decode.id}", json={"url": decode.url, "worker_type": kind})
            assert answer.status_code == 400
            assert "`worker_type` must be decode, as it was" in answer.text
        answer = await router.http.put(f"/workers/{decode.id}", json={"url": "http://different:9999"})
        assert answer.status_code == 400
        assert f"`url` must be {decode.url}, the worker's own" in answer.text
        for method, body in (("PUT", {"url": decode.url}), ("PATCH", {"cost": 1})):
            answer = await router.http.request(method, "/workers/unknown", json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "WORKER_NOT_FOUND")


@aio
async def test_a_worker_that_is_being_removed_is_not_changed() -> None:
    async with serving(FakePair()) as router:
        worker = router.registry.workers[1]
        worker.load.requests += 1
        await router.http.delete(f"/workers/{worker.id}")
        answer = await router.http.patch(f"/workers/{worker.id}", json={"cost": 1})
        assert answer.status_code == 409
        worker.load.requests -= 1
        await until(lambda: len(router.registry.workers) == 1, "it is gone")


@aio
async def test_a_change_whose_body_comes_late_keeps_what_was_changed_meanwhile() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def late() -> AsyncIterator[bytes]:
        yield b'{"cost": '
        begun.set()
        await go_on.wait()
        yield b"2}"

    async with serving(FakePair()) as router:
        worker = router.registry.workers[1]
        asked = asyncio.create_task(router.http.patch(f"/workers/{worker.id}", content=late()))
        await begun.wait()
        await until(lambda: len(router.requests) == 1, "it is being read")
        assert (await router.http.patch(f"/workers/{worker.id}", json={"labels": {"a": "b"}})).status_code == 202
        go_on.set()
        assert (await asked).status_code == 202
        assert (worker.config.cost, dict(worker.config.labels)) == (2, {"a": "b"})


@aio
async def test_an_address_is_there_once_whatever_the_type() -> None:
    async with serving(FakePair()) as router:
        url = router.registry.workers[1].url
        answer = await router.post("/workers", {"url": url})
        assert (answer.status_code, answer.json()["code"]) == (409, "WORKER_ALREADY_EXISTS")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"priority": -1}, "`priority` must be an integer from 0"),
        ({"priority": 1.5}, "`priority` must be an integer"),
        ({"priority": True}, "`priority` must be an integer"),
        ({"cost": "much"}, "`cost` must be a number from 0"),
        ({"cost": 1e300}, "`cost` must be a number from 0"),
        ({"labels": ["a"]}, "`labels` must be an object of at most 64 strings"),
        ({"labels": {"a": 1}}, "`labels` must be an object"),
        ({"labels": {"a": "x" * 257}}, "`labels` must be an object"),
        ({"labels": {str(n): "" for n in range(65)}}, "`labels` must be an object"),
        ({"api_key": "a\r\nb: c"}, "`api_key` must be a string of printable"),
        ({"health": 7}, "`health` must be an object of timeout_secs, "),
        ({"health": {"timeout_secs": 0}}, "`health.timeout_secs` must be a number from 0.001"),
        ({"health": {"failure_threshold": 1.5}}, "`health.failure_threshold` must be a number from 1"),
        ({"health": {"disable_health_check": 1}}, "`health.disable_health_check` must be true or false"),
        ({"health": {"drain_settle_secs": 5}}, "`drain_settle_secs` is not taken: a worker that is removed goes"),
        ({"health": {"path": "/x"}}, "`path` is not known here; `health` has timeout_secs, "),
        ({"weight": 1}, "`weight` is not known here; "),
    ],
)
def test_wrong_settings_change_nothing(body: dict[str, Any], words: str) -> None:
    async def test() -> None:
        async with serving(FakePair()) as router:
            worker = router.registry.workers[1]
            before = worker.config
            for method, path, more in (
                ("PATCH", f"/workers/{worker.id}", {}),
                ("PUT", f"/workers/{worker.id}", {"url": worker.url}),
                ("POST", "/workers", {"url": "http://127.0.0.1:1"}),
            ):
                answer = await router.http.request(method, path, json={**body, **more})
                assert answer.status_code == 400, (method, answer.text)
                assert words in answer.json()["error"]["message"]
            assert (worker.config, len(router.registry.workers)) == (before, 2)

    run(test)


def test_only_some_settings_can_be_patched() -> None:
    async def test() -> None:
        async with serving(FakePair()) as router:
            worker = router.registry.workers[1]
            for name, value in (("url", worker.url), ("model_id", "m"), ("worker_type", "decode")):
                answer = await router.http.patch(f"/workers/{worker.id}", json={name: value})
                assert answer.status_code == 400
                assert f"`{name}` is not known here; what can be changed of a worker is priority, " in answer.text

    run(test)
