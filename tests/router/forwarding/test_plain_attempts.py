"""Requests to plain servers: policies, retries, circuit breakers and aborts, as for pairs (the servers are fakes)."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from router.dispatch.retries import RetrySettings
from router.workers.circuit_breaker import CircuitBreakerSettings
from router.workers.health import HealthSettings
from tests.router.support.aio import aio, run, until
from tests.router.support.before_plain import BeforePlain
from tests.router.support.fakes import Call, FakeServer, whole
from tests.router.support.serving import serving

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
QUICK = RetrySettings(initial_backoff_ms=1)
RARELY_PROBED = HealthSettings(probe_interval_secs=1000, skip_warm_up=True)


class Plain(FakeServer):
    """A server of the model `m` that answers each generation with `answer`."""

    def __init__(self, *, sglang: bool = False) -> None:
        super().__init__(self._handle)
        self.sglang = sglang
        self.answer: Callable[[Call], Any] = lambda call: call.answer({"served_by": self.url})

    async def _handle(self, call: Call) -> None:
        if call.path == "/v1/models":
            await call.answer({"data": [{"id": "m"}]})
        elif call.path == "/server_info" and self.sglang:
            await call.answer({"served_model_name": "m", "disaggregation_mode": "null", "version": "0.5.17"})
        elif call.path in ("/server_info", "/health"):
            await call.answer({"error": "no"}, 404)
        elif call.path == "/abort_request":
            await call.answer({})
        else:
            await self.answer(call)

    @property
    def generations(self) -> list[Call]:
        """The requests that clients sent."""
        return [call for path in (CHAT, "/v1/completions", "/generate") for call in self.to(path)]


class Two(BeforePlain[Plain]):
    """A router before two plain servers."""

    def __init__(self, *, sglang: bool = False, **settings: Any) -> None:
        usual: dict[str, Any] = {"policy": "round_robin", "retries": QUICK, "health": RARELY_PROBED}
        super().__init__([Plain(sglang=sglang), Plain(sglang=sglang)], **usual | settings)

    async def chat(self, **more: Any) -> Any:
        return await self.router.http.post(CHAT, json={**BODY, **more})

    async def metric(self, pattern: str) -> list[str]:
        """The values of the metrics' lines that begin so."""
        text = (await self.router.http.get("/metrics")).text
        return re.findall(rf"^{pattern} (\S+)$", text, re.MULTILINE)


@aio
async def test_the_policy_chooses() -> None:
    async with Two() as two:
        for _ in range(10):
            assert (await two.chat()).status_code == 200
        assert [len(server.generations) for server in two.servers] == [5, 5]
        labels = 'connection_mode="http",model="m",policy="round_robin",worker_type="regular"'
        assert await two.metric(rf"smg_worker_selection_total\{{{labels}\}}") == ["10.0"]


@aio
async def test_equal_prompts_go_to_one_server() -> None:
    async with Two(policy="cache_aware") as two:
        for _ in range(6):
            assert (await two.chat()).status_code == 200
        assert sorted(len(server.generations) for server in two.servers) == [0, 6]


@pytest.mark.parametrize("stream", [False, True])
def test_when_one_of_two_servers_dies_no_request_fails(stream: bool) -> None:
    async def test() -> None:
        async with Two() as two:
            for server in two.servers:
                server.answer = _streaming if stream else server.answer
            assert (await two.chat(stream=stream)).status_code == 200
            await two.servers[0].__aexit__()
            answers = await asyncio.gather(*(two.chat(stream=stream) for _ in range(40)))
            assert [answer.status_code for answer in answers] == [200] * 40
            assert all("error" not in answer.text for answer in answers)

    run(test)


@pytest.mark.parametrize("retries", [1, 2])
def test_a_stream_that_begins_with_a_failure_is_tried_on_another_server(retries: int) -> None:
    async def fails(call: Call) -> None:
        await call.stream({"error": {"message": "out of memory", "code": 503}})
        await call.done()

    async def test() -> None:
        async with Two(retries=RetrySettings(initial_backoff_ms=1, max_retries=retries)) as two:
            two.servers[0].answer, two.servers[1].answer = fails, _streaming
            answers = [await two.chat(stream=True) for _ in range(2)]
            statuses = sorted(answer.status_code for answer in answers)
            assert statuses == ([200, 502] if retries == 1 else [200, 200])
            assert all("out of memory" in answer.text for answer in answers if answer.status_code == 502)
            workers = {worker.url: worker.breaker.consecutive_failures for worker in two.router.registry.workers}
            assert workers == {two.servers[0].url: retries, two.servers[1].url: 0}, "each request began there"

    run(test)


async def _streaming(call: Call) -> None:
    await call.stream({"choices": [{"delta": {"content": "one"}}]})
    await call.done()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_on_another_server(status: int) -> None:
    async def test() -> None:
        async with Two() as two:
            two.servers[0].answer = lambda call: call.answer({"error": {"message": "busy"}}, status)
            for _ in range(4):
                answer = await two.chat()
                assert answer.json() == {"served_by": two.servers[1].url}
            labels = f'connection_mode="http",error_type="status_{status}",worker_type="regular"'
            assert float((await two.metric(rf"smg_worker_errors_total\{{{labels}\}}"))[0]) >= 1

    run(test)


@aio
async def test_the_last_attempt_is_the_clients() -> None:
    async with Two(retries=RetrySettings(max_retries=3, initial_backoff_ms=1)) as two:
        for server in two.servers:
            server.answer = lambda call: call.answer({"error": {"message": "too much"}}, 503)
        answer = await two.chat()
        assert (answer.status_code, answer.json()) == (503, {"error": {"message": "too much"}})
        assert sum(len(server.generations) for server in two.servers) == 3
        exhausted = r'smg_worker_retries_exhausted_total\{endpoint="chat",worker_type="regular"\}'
        assert await two.metric(exhausted) == ["1.0"]


@aio
async def test_what_a_server_refuses_is_not_tried_again() -> None:
    async with Two() as two:
        for server in two.servers:
            server.answer = lambda call: call.answer({"error": {"message": "wrong"}}, 400)
        assert (await two.chat()).status_code == 400
        assert sum(len(server.generations) for server in two.servers) == 1


@aio
async def test_a_broken_stream_is_not_tried_again() -> None:
    """The client has the first words; it gets an error event behind them."""

    async def breaks(call: Call) -> None:
        await call.stream({"choices": [{"delta": {"content": "one"}}]})
        call.drop()

    async with Two() as two:
        for server in two.servers:
            server.answer = breaks
        answer = await two.chat(stream=True)
        assert answer.status_code == 200
        assert '"one"' in answer.text
        assert '"error"' in answer.text
        assert sum(len(server.generations) for server in two.servers) == 1


@aio
async def test_a_stream_that_breaks_before_its_first_words_is_tried_again() -> None:
    async def breaks(call: Call) -> None:
        await call.stream()
        call.drop()

    async with Two() as two:
        two.servers[0].answer, two.servers[1].answer = breaks, _streaming
        for _ in range(2):
            answer = await two.chat(stream=True)
            assert '"one"' in answer.text
            assert '"error"' not in answer.text


@aio
async def test_a_server_that_fails_too_often_gets_nothing_for_a_while() -> None:
    breaker = CircuitBreakerSettings(failure_threshold=2)
    async with Two(breaker=breaker) as two:
        two.servers[0].answer = lambda call: call.answer({"error": "broken"}, 500)
        for _ in range(10):
            assert (await two.chat()).status_code == 200
        assert len(two.servers[0].generations) == 2
        workers = (await two.router.http.get("/workers")).json()["workers"]
        assert [each["breaker"] for each in workers] == ["open", "closed"]


@pytest.mark.parametrize("sglang", [True, False])
def test_the_router_itself_tries_a_server_that_failed_too_often(sglang: bool) -> None:
    """No client's request is needed, and it serves again long before the breaker's timeout."""

    async def test() -> None:
        settings = {"breaker": CircuitBreakerSettings(failure_threshold=1), "health": HealthSettings()}
        async with Two(sglang=sglang, retries=RetrySettings(disable_retries=True), **settings) as two:
            well = two.servers[0].answer
            for server in two.servers:
                server.answer = lambda call: call.answer({"error": "broken"}, 500)
            for _ in range(2):
                assert (await two.chat()).status_code == 500
            assert (await two.chat()).status_code == 503
            two.servers[0].answer = well
            await until(lambda: two.router.registry.workers[0].breaker.state == "closed", "it is tried")
            assert (await two.chat()).json() == {"served_by": two.servers[0].url}
            assert (await two.router.http.get("/health_generate")).status_code == 200

    run(test)


@pytest.mark.parametrize("stream", [False, True])
def test_headers_of_the_server_are_passed_on(stream: bool) -> None:
    """But for those of the connection, and those by which a server would allow web pages what the router does not."""
    told = [("retry-after", "7"), ("x-worker-id", "w1"), ("access-control-allow-origin", "*"), ("set-cookie", "a=b")]

    async def test() -> None:
        async with Two(retries=RetrySettings(disable_retries=True)) as two:
            kind = "text/event-stream" if stream else "application/json"
            for server in two.servers:
                server.answer = lambda call: call.send(
                    whole(b"data: {}\n\n", 200 if stream else 429, ("content-type", kind), *told)
                )
            answer = await two.chat(stream=stream)
            assert answer.status_code == (200 if stream else 429)
            assert answer.headers["retry-after"] == "7"
            assert answer.headers["x-worker-id"] == "w1"
            assert not {"access-control-allow-origin", "set-cookie"} & set(answer.headers)
            assert len(answer.headers.get_list("content-type")) == 1

    run(test)


@pytest.mark.parametrize("exact", [False, True])
def test_one_model_alone_gets_every_name(exact: bool) -> None:
    """And under the name that its server knows: others than SGLang refuse a wrong one."""

    async def test() -> None:
        async with Two(igw=exact) as two:
            answer = await two.router.post(CHAT, {**BODY, "model": "gpt"})
            assert answer.status_code == (404 if exact else 200)
            names = [call.json["model"] for server in two.servers for call in server.generations]
            assert names == ([] if exact else ["m"])

    run(test)


@aio
async def test_servers_may_come_later() -> None:
    """A worker of no type is a plain one, as for the other routers."""
    async with Plain(sglang=True) as server, serving(health=RARELY_PROBED) as router:
        assert (await router.http.get("/health")).status_code == 200
        assert "POST /workers" in (await router.http.get("/readiness")).json()["error"]["message"]
        answer = await router.http.post(CHAT, json=BODY)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), "it may yet be served"
        for body, status in (({"url": server.url}, 202), ({"url": server.url, "worker_type": "regular"}, 409)):
            assert (await router.http.post("/workers", json=body)).status_code == status
        await until(lambda: router.registry.workers[0].health.usable, "it is found")
        assert (await router.http.post(CHAT, json=BODY)).json() == {"served_by": server.url}
        assert (await router.http.post(CHAT, json={**BODY, "model": "other"})).status_code == 404, "all is known"
        assert (await router.http.get("/get_model_info")).status_code == 200


@pytest.mark.parametrize("sglang", [True, False])
def test_a_client_that_leaves_ends_its_request_on_the_server(sglang: bool) -> None:
    """SGLang is told by the request's id; of any server the connection is closed."""
    left = asyncio.Event()

    async def hangs(call: Call) -> None:
        await call.gone()
        left.set()

    async def test() -> None:
        async with Two(sglang=sglang) as two:
            for server in two.servers:
                server.answer = hangs
            request = asyncio.create_task(two.chat())
            await until(lambda: any(server.generations for server in two.servers), "a server has it")
            (call,) = (call for server in two.servers for call in server.generations)
            request.cancel()
            await left.wait()
            assert ("rid" in call.json) == sglang
            if sglang:
                await until(lambda: any(server.to("/abort_request") for server in two.servers), "an abort")
                (abort,) = (each for server in two.servers for each in server.to("/abort_request"))
                assert abort.json == {"rid": call.json["rid"]}

    run(test)


@pytest.mark.parametrize(
    ("path", "body", "ids"),
    [
        ("/generate", {"text": "a"}, 1),
        ("/generate", {"text": ["a", "b"]}, 2),
        ("/v1/completions", {"prompt": ["a", "b", "c"]}, 3),
        ("/v1/completions", {"prompt": "a", "n": 2}, 0),
        ("/generate", {"text": "a", "sampling_params": {"n": 2}}, 0),
    ],
)
def test_request_ids_fit_the_batch(path: str, body: dict[str, Any], ids: int) -> None:
    """Where a prompt has several answers, SGLang makes the ids."""

    async def test() -> None:
        async with Two(sglang=True) as two:
            assert (await two.router.http.post(path, json={"model": "m", **body})).status_code == 200
            (call,) = (call for server in two.servers for call in server.generations)
            rid = call.json.get("rid")
            assert (len(rid) if isinstance(rid, list) else int(rid is not None)) == ids

    run(test)
