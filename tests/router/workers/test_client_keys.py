"""Servers that want an API key which only clients have (fakes: so that it is known what each of them got)."""

from typing import Any

import pytest

from router.workers.health import HealthSettings
from router.workers.worker import Worker
from router.workers.worker_config import WorkerConfig
from tests.router.support.aio import aio, run, until
from tests.router.support.fakes import Call, FakePair, FakeServer, Handler, started, whole
from tests.router.support.serving import Serving, serving

KEY = {"authorization": "Bearer of-the-workers"}
CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
WARM = HealthSettings(probe_interval_secs=60)


def locked(handler: Handler, *, health: int = 200) -> Handler:
    """A server that answers only who has the key, like SGLang with an API key; its health everybody may know."""

    async def handle(call: Call) -> None:
        if call.path == "/health":
            await call.send(whole(b"", health))
        elif call.headers.get("authorization") != KEY["authorization"]:
            await call.answer({"error": "Unauthorized"}, 401)
        else:
            await handler(call)

    return handle


async def says_its_model(call: Call) -> None:
    await call.answer({"asked_for": call.json.get("model"), "got": call.path})


def lock(pair: FakePair) -> FakePair:
    for fake in (pair.prefill, pair.decode):
        fake.server.handler = locked(fake._handle)
    return pair


async def selections(router: Serving) -> list[str]:
    lines = (await router.http.get("/metrics")).text.splitlines()
    return [line for line in lines if line.startswith("smg_worker_selection_total")]


@pytest.mark.parametrize("model", ["m", "made-up", "default", None])
def test_a_plain_server_is_used_with_the_key_of_each_client(model: str | None) -> None:
    async def test() -> None:
        body = {name: value for name, value in {**BODY, "model": model}.items() if value is not None}
        async with FakeServer(locked(says_its_model)) as server, serving(plain=(server.url,), health=WARM) as router:
            for path in ("/readiness", "/health"):
                assert (await router.http.get(path)).status_code == 200
            (shown,) = (await router.http.get("/workers")).json()["workers"]
            assert (shown["healthy"], shown["model_id"]) == (True, None)
            assert "it wants an API key; give it with --api-key. Until then requests go there" in shown["problem"]
            answer = await router.http.post(CHAT, json=body, headers=KEY)
            assert answer.json() == {"asked_for": model or "default", "got": CHAT}
            for headers in ({}, {"authorization": "Bearer wrong"}):
                assert (await router.http.post(CHAT, json=body, headers=headers)).status_code == 401
            told = await selections(router)
            assert len(told) == 1, told
            assert 'model="unknown"' in told[0], "a client's word is no label"

    run(test)


@aio
async def test_a_pair_is_used_with_the_key_of_each_client() -> None:
    """Without a generation of the router's own, which has no key for it."""
    pair = lock(FakePair())
    async with serving(pair, health=WARM) as router:
        assert (await router.http.get("/readiness")).status_code == 200
        assert pair.decode.requests == []
        for body in ({"text": "x"}, {"text": "x", "model": "whatever"}):
            answer = await router.http.post("/generate", json=body, headers=KEY)
            assert answer.status_code == 200, answer.text
        assert (await router.http.post("/generate", json={"text": "x"})).status_code == 401
        await router.settled()


@aio
async def test_a_prefill_server_must_have_its_port_then() -> None:
    pair = lock(FakePair())
    async with pair.prefill.server:
        worker = Worker(pair.prefill.url, "prefill")
        await worker.probe()
        assert not worker.health.healthy
        assert (worker.health.problem or "").endswith("Give its bootstrap port after its address too, or the key.")
        worker.origin.close()


@aio
async def test_a_key_that_a_server_does_not_take_is_a_fault_and_not_a_clients_matter() -> None:
    async with FakeServer(locked(says_its_model)) as server:
        worker = Worker(server.url, "plain", api_key="wrong")
        await worker.probe()
        assert (worker.health.healthy, worker.health.wants_key) == (False, False)
        worker.origin.close()


@aio
async def test_a_server_that_asks_for_no_key_any_more_is_asked_for_its_models() -> None:
    async def lists(call: Call) -> None:
        await call.answer({"data": [{"id": "m"}]})

    async with FakeServer(locked(lists)) as server:
        worker = Worker(server.url, "plain", health_settings=HealthSettings(interval_secs=1e-9))
        for handler, models, any_model in (
            (locked(lists), (), True),
            (lists, ("m",), False),
            (locked(lists), (), True),
        ):
            server.handler = handler
            await worker.probe()
            assert (worker.health.healthy, worker.models, worker.serves_any) == (True, models, any_model)
        assert "whatever their model" in (worker.health.problem or "")
        worker.origin.close()


@aio
async def test_a_server_that_is_known_to_have_the_model_comes_first() -> None:
    async def lists(call: Call) -> None:
        if call.path == "/v1/models":
            await call.answer({"data": [{"id": "m"}]})
        elif call.path in ("/health", "/server_info"):
            await call.send(whole(b"", 404))
        else:
            await says_its_model(call)

    async with (
        FakeServer(lists) as known,
        FakeServer(locked(says_its_model)) as unknown,
        serving(plain=(unknown.url, known.url), health=WARM, policy="round_robin") as router,
    ):
        for model, server in (("m", known), ("m", known), ("other", unknown)):
            before = len(server.to(CHAT))
            answer = await router.http.post(CHAT, json={**BODY, "model": model}, headers=KEY)
            assert (answer.status_code, len(server.to(CHAT))) == (200, before + 1)


@aio
async def test_an_operator_may_say_which_model_it_has() -> None:
    """Then other names are unknown, and trees and lists know it."""
    async with FakeServer(locked(says_its_model)) as server, serving(health=WARM) as router:
        await router.post("/workers", {"url": server.url, "model_id": "m"})
        await until(lambda: router.registry.workers[0].health.usable, "it may get requests")
        assert router.registry.models() == ["m"]
        assert (await router.http.post(CHAT, json=BODY, headers=KEY)).json()["asked_for"] == "m"
        assert (await router.http.post(CHAT, json={**BODY, "model": "x"}, headers=KEY)).status_code == 404


def test_what_is_refused_otherwise_is_refused_as_ever() -> None:
    async def fails(call: Call) -> None:
        await call.send(whole(b"", 500))

    async def test() -> None:
        async with FakeServer(fails) as server:
            worker = Worker(server.url, "plain")
            await worker.probe()
            states: dict[str, Any] = {"healthy": worker.health.healthy, "any": worker.serves_any}
            assert states == {"healthy": False, "any": False}
            worker.origin.close()

    run(test)


@aio
async def test_where_the_router_has_keys_no_client_opens_a_server() -> None:
    """Then none of the clients' keys is sent on."""
    async with FakeServer(locked(says_its_model)) as server:
        worker = Worker(server.url, "plain", takes_client_keys=False)
        await worker.probe()
        assert (worker.health.healthy, worker.health.wants_key) == (False, False)
        worker.origin.close()


@aio
async def test_a_name_counts_at_once_where_nothing_is_probed() -> None:
    pair = FakePair(model="own")
    async with started(pair):
        worker = Worker(pair.decode.url, "decode", health_settings=HealthSettings(disable_checks=True))
        await worker.probe()
        worker.configure(WorkerConfig(model_id="alias"), None, worker.health.settings)
        assert (worker.models, worker.served.own_name_of("alias")) == (("alias",), "own")
        worker.configure(WorkerConfig(), None, worker.health.settings)
        assert worker.models == ("own",)
        worker.origin.close()
