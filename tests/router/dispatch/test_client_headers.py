"""Headers of clients that workers get, and those that they do not (the workers are fakes)."""

import asyncio
from typing import Any

import pytest

from router.server.settings import ServerSettings
from router.workers.circuit_breaker import CircuitBreakerSettings
from router.workers.factory import WorkerFactory
from router.workers.worker_config import WorkerConfig
from tests.router.forwarding.test_plain_attempts import BODY, CHAT, RARELY_PROBED, Plain
from tests.router.support.aio import aio, run, until
from tests.router.support.fakes import Call, FakePair
from tests.router.support.serving import Serving, serving

FORWARDED = {
    "x-request-id": "req-1",
    "x-correlation-id": "corr-1",
    "x-trace-id": "trace-1",
    "request-id": "id-1",
    "x-request-id-span": "span-1",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=value",
    "x-smg-routing-key": "route-1",
}
KEY = {"authorization": "Bearer of-the-workers"}
KEPT = {"cookie": "a=b", "x-custom": "c", "x-data-parallel-rank": "0", "x-moa-client": "d", "x-api-key": "e"}
STREAM = {**BODY, "model": "fake", "stream": True}


def heard(call: Call) -> dict[str, str]:
    """What a worker got of a client's headers."""
    return {name: value for name, value in call.headers.items() if name in {**FORWARDED, **KEY, **KEPT}}


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/generate"])
def test_a_plain_server_gets_ids_trace_routing_key_and_key(path: str) -> None:
    async def test() -> None:
        async with Plain() as server, serving(plain=(server.url,), health=RARELY_PROBED) as router:
            body = {**BODY, "prompt": "x", "text": "x"}
            answer = await router.http.post(path, json=body, headers={**FORWARDED, **KEY, **KEPT})
            assert answer.status_code == 200
            assert heard(server.generations[0]) == {**FORWARDED, **KEY}
            await router.http.post(path, json=body)
            assert heard(server.generations[1]) == {}, "nor is anything made up"

    run(test)


@pytest.mark.parametrize(("path", "body"), [("/generate", {"text": "x"}), (CHAT, STREAM)])
def test_both_servers_of_a_pair_get_them(path: str, body: dict[str, Any]) -> None:
    async def test() -> None:
        pair = FakePair()
        async with serving(pair) as router:
            answer = await router.http.post(path, json=body, headers={**FORWARDED, **KEY, **KEPT})
            assert answer.status_code == 200
            for fake in (pair.prefill, pair.decode):
                assert heard(fake.requests[0]) == {**FORWARDED, **KEY}
            await router.settled()

    run(test)


@aio
async def test_bytes_of_a_value_stay_as_they_are() -> None:
    async with Plain() as server, serving(plain=(server.url,), health=RARELY_PROBED) as router:
        headers = [(b"x-correlation-id", "ü".encode()), (b"content-type", b"application/json")]
        raw = b'{"model": "m", "messages": []}'
        server.answer = lambda call: call.answer({"got": call.headers["x-correlation-id"]})
        answer = await router.http.post(CHAT, content=raw, headers=headers)
        assert answer.json() == {"got": "ü"}, "fakes read UTF-8"


async def found(router: Serving) -> None:
    await until(lambda: router.registry.workers[0].health.usable, "it is found")


@pytest.mark.claim("workers-hear-no-client-key")
@aio
async def test_a_workers_own_key_wins_and_a_key_of_this_router_stays() -> None:
    """Of clients with a key here workers get the ids alone."""
    for server_key, own_key, expected in (
        (None, "its-own", "Bearer its-own"),
        ("secret", None, "Bearer secret"),
        ("secret", "its-own", "Bearer its-own"),
    ):
        settings = ServerSettings(api_key=server_key)
        async with Plain() as server, serving(health=RARELY_PROBED, server=settings) as router:
            auth = KEY if server_key is None else {"authorization": "bearer secret"}
            body = {"url": server.url} | ({} if own_key is None else {"api_key": own_key})
            assert (await router.http.post("/workers", json=body, headers=auth)).status_code == 202
            await found(router)
            assert (await router.http.post(CHAT, json=BODY, headers={**FORWARDED, **auth})).status_code == 200
            assert heard(server.generations[0]) == {**FORWARDED, "authorization": expected}


def test_each_worker_of_a_pair_has_its_own_rule() -> None:
    """A worker with a key gets that one, also once it is changed; the other one gets the client's."""

    async def test() -> None:
        pair = FakePair()
        async with serving(pair) as router:
            decode = router.registry.workers[1]
            factory = WorkerFactory(decode.health.settings, CircuitBreakerSettings(), None)
            for number, key in enumerate(("one", "two", None)):
                factory.configure(decode, WorkerConfig(api_key=key))
                await router.http.post("/generate", json={"text": "x"}, headers=KEY)
                expected = KEY["authorization"] if key is None else f"Bearer {key}"
                assert pair.decode.requests[number].headers["authorization"] == expected
                assert heard(pair.prefill.requests[number]) == KEY
            await router.settled()

    run(test)


@aio
async def test_an_abort_has_the_key_that_the_request_had() -> None:
    """Or a server that wants one would go on for nobody."""

    async def hangs(call: Call) -> None:
        await call.gone()

    pair = FakePair()
    pair.decode.generate = hangs
    async with Plain(sglang=True) as server, serving(pair, plain=(server.url,)) as router:
        server.answer = hangs
        for model, reached in (("fake", pair.decode.server), ("m", server)):
            body = {"text": "x", "model": model}
            request = asyncio.create_task(router.http.post("/generate", json=body, headers={**KEY, **FORWARDED}))
            await until(lambda r=reached: bool(r.to("/generate")), "it is there")  # type: ignore[misc]
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
        for fake in (pair.decode.server, pair.prefill.server, server):
            await until(lambda f=fake: bool(f.to("/abort_request")), "it is aborted")  # type: ignore[misc]
            assert heard(fake.to("/abort_request")[0]) == KEY
        await router.settled()


@aio
async def test_tokenizers_hear_of_them_too() -> None:
    pair = FakePair()
    async with serving(pair) as router:
        assert (await router.http.post("/v1/tokenize", json={"prompt": ["x"]}, headers={**KEY, **KEPT})).is_success
        assert heard(pair.decode.server.to("/tokenize")[0]) == KEY
