"""What a router finds out about plain servers (fakes: no one real server answers in all these ways)."""

import re
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from router.errors import NotFound, NoWorker
from router.workers.health import HealthSettings
from router.workers.registry import Registry
from router.workers.worker import PAIR_ROLES, Worker
from router.workers.worker_health import WorkerHealth
from tests.router.support.aio import aio, run, until, within
from tests.router.support.fakes import Call, FakeServer, Handler, whole
from tests.router.support.serving import serving

HTML = whole(b"<html>welcome</html>", 200, ("content-type", "text/html"))
MODELS = {"object": "list", "data": [{"id": "m", "object": "model", "max_model_len": 4096}]}
SGLANG = {"served_model_name": "m", "disaggregation_mode": "null", "version": "0.5.17", "context_length": 512}


def answering(answers: Mapping[str, Any], other: Any = 404) -> Handler:
    """A server with an answer for each path: a status, raw bytes, or a value as JSON; None drops the connection."""

    async def handler(call: Call) -> None:
        answer = answers.get(call.path, other)
        if answer is None:
            call.drop()
        elif isinstance(answer, int):
            await call.send(whole(b"" if answer == 204 else b'{"error": "no"}', answer))
        elif isinstance(answer, bytes):
            await call.send(answer)
        else:
            await call.answer(answer)

    return handler


def plain(server: FakeServer, **more: Any) -> Worker:
    """A plain worker whose health is checked in every probe after the first, and for which one failure is enough."""
    health = HealthSettings(failure_threshold=1, success_threshold=1, interval_secs=1e-9, timeout_secs=5)
    return Worker(server.url, "plain", health_settings=health, **more)


@pytest.mark.case("3.health_401", "3.health_403", "3.health_405", "3.health_501", "3.health_204")
@pytest.mark.parametrize("status", [401, 403, 404, 405, 501, 204, 400, 302, 429])
def test_public_case_a_server_that_lists_its_models_stays_served(status: int) -> None:
    """Whatever it says at a health path that it need not have; a key that it refuses there is complained of."""

    async def test() -> None:
        async with FakeServer(answering({"/v1/models": MODELS, "/health": status})) as server:
            worker = plain(server)
            for _ in range(3):
                await worker.probe()
                assert worker.health.healthy
                assert worker.models == ("m",)
            assert len(server.to("/health")) == 2
            if status in (401, 403):
                sentence = f"{server.url} answered /health with {status}: it wants an API key; give it with --api-key."
                assert worker.health.problem == sentence
            else:
                assert worker.health.problem is None
            worker.origin.close()

    run(test)


@pytest.mark.case("3.health404")
def test_public_case_a_router_goes_on_to_serve_a_server_without_a_health_path() -> None:
    async def test() -> None:
        health = HealthSettings(failure_threshold=1, interval_secs=0.01, probe_interval_secs=0.02, skip_warm_up=True)
        async with (
            FakeServer(answering({"/v1/models": MODELS})) as server,
            serving(plain=(server.url,), health=health) as router,
        ):
            await until(lambda: len(server.to("/health")) >= 3, "three health checks")
            assert "m" in [each["id"] for each in (await router.http.get("/v1/models")).json()["data"]]
            assert (await router.http.get("/workers")).json()["workers"][0]["problem"] is None

    run(test)


@pytest.mark.parametrize(
    ("health", "words"), [(500, "answered /health with 500"), (503, "answered /health with 503"), (None, "without an")]
)
def test_a_server_that_says_it_is_not_well_is_not_served(health: Any, words: str) -> None:
    async def test() -> None:
        async with FakeServer(answering({"/v1/models": MODELS, "/health": health})) as server:
            worker = plain(server)
            await worker.probe()
            assert worker.health.healthy
            await worker.probe()
            assert not worker.health.healthy
            assert words in (worker.health.problem or "")
            worker.origin.close()

    run(test)


@pytest.mark.case(
    "3.server_info_200_HTML",
    "3.server_info_401",
    "3.server_info_403",
    "3.server_info_405",
    "3.server_info_501",
    "3.server_info_400",
    "3.server_info_200_JSON",
)
@pytest.mark.parametrize(
    "other",
    [HTML, 401, 403, 405, 501, 400, 404, 302, 500, {"ok": True}, [], whole(b"null"), {"served_model_name": 7}, None],
)
def test_public_case_whatever_is_not_sglangs_answer_leads_to_the_list_of_models(other: Any) -> None:
    async def test() -> None:
        answers = {"/v1/models": MODELS, "/health": 200}
        async with FakeServer(answering(answers, other)) as server:
            worker = plain(server)
            for _ in range(2):
                await within(3.0, worker.probe())
                assert (worker.health.healthy, worker.health.problem, worker.models) == (True, None, ("m",))
            assert worker.capability == "openai"
            assert worker.report.context_length == 4096
            worker.origin.close()

    run(test)


@aio
async def test_sglang_itself_is_known_by_its_own_answer() -> None:
    """And its own error is its own: the list of models that still comes makes it no other server."""
    answers: dict[str, Any] = {"/v1/models": {"data": [{"id": "other"}]}, "/server_info": SGLANG, "/health": 200}
    async with FakeServer(answering(answers)) as server:
        worker = plain(server)
        await worker.probe()
        assert (worker.models, worker.capability, worker.report.context_length) == (("m",), "sglang", 512)
        assert not server.to("/v1/models")
        for sick in (500, 503, None):
            answers["/server_info"] = sick
            await worker.probe()
            assert not worker.health.healthy
            answers["/server_info"] = SGLANG
            await worker.probe()
            assert worker.health.healthy
        answers["/server_info"] = 404  # another engine at its address
        await worker.probe()
        assert (worker.health.healthy, worker.models, worker.capability) == (True, ("other",), "openai")
        worker.origin.close()


@pytest.mark.case("3.models_odd")
@pytest.mark.parametrize("server_info", [404, HTML, {"ok": True}])
@pytest.mark.parametrize(
    ("models", "words"),
    [
        (HTML, "answered /v1/models with something that is not JSON"),
        ({"data": []}, "does not say in /v1/models which model it serves"),
        ([{"id": "m"}], "does not say in /v1/models which model it serves"),
        ({"data": None}, "does not say in /v1/models which model it serves"),
        ({"data": ["m", {"id": 7}, {"id": ""}, {}]}, "does not say in /v1/models which model it serves"),
        (whole(b"7"), "does not say in /v1/models which model it serves"),
        (404, "answered /v1/models with 404."),
        (500, "answered /v1/models with 500."),
    ],
)
def test_public_case_a_wrong_list_of_models_is_named(models: Any, words: str, server_info: Any) -> None:
    async def test() -> None:
        async with FakeServer(answering({"/v1/models": models, "/server_info": server_info})) as server:
            worker = plain(server)
            await worker.probe()
            assert not worker.health.healthy
            assert words in (worker.health.problem or "")
            assert "/server_info" not in (worker.health.problem or "")
            worker.origin.close()

    run(test)


@aio
async def test_a_key_that_a_server_does_not_take_is_named() -> None:
    async with FakeServer(answering({}, 403)) as server:
        worker = plain(server, api_key="mine")
        await worker.probe()
        sentence = "answered /v1/models with 403: it does not take the API key given with --api-key."
        assert (worker.health.problem or "").endswith(sentence)
        assert server.calls[-1].headers["authorization"] == "Bearer mine"
        worker.origin.close()


@pytest.mark.parametrize("path", ["/health", "/server_info", "/v1/models"])
def test_the_path_that_hangs_is_named(path: str) -> None:
    async def test() -> None:
        async def handler(call: Call) -> None:
            if call.path == path:
                await call.gone()
            await answering({"/v1/models": MODELS, "/health": 200})(call)

        async with FakeServer(handler) as server:
            health = HealthSettings(failure_threshold=1, interval_secs=1e-9, timeout_secs=0.5)
            worker = Worker(server.url, "plain", healthy=True, health_settings=health)
            await within(3.0, worker.probe())
            assert worker.health.problem == f"{server.url} did not answer {path} within 0.5 s."
            worker.origin.close()

    run(test)


# ---- servers of several models


class Gateway:
    """A fake server of several models that answers chat with the model's name."""

    def __init__(self, *models: Any) -> None:
        self.models = list(models)
        self.server = FakeServer(self._handle)

    async def _handle(self, call: Call) -> None:
        if call.path == "/v1/models":
            await call.answer({"data": [{"id": model} for model in self.models]})
        elif call.path == "/v1/chat/completions":
            choice = {"index": 0, "message": {"content": call.json["model"]}, "finish_reason": "stop"}
            await call.answer({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
        else:
            await call.send(whole(b"", 404))


@aio
async def test_every_model_of_a_server_is_served() -> None:
    first, second = Gateway("a", "b", "b", 7, "a", "c"), Gateway("c", "d")
    async with first.server, second.server, serving(plain=(first.server.url, second.server.url)) as router:
        listed = (await router.http.get("/v1/models")).json()["data"]
        assert [each["id"] for each in listed if each["owned_by"] != "faster-moa"] == ["a", "b", "c", "d"]
        shown = (await router.http.get("/workers")).json()["workers"]
        assert [(each["model"], each["models"]) for each in shown] == [("a", ["a", "b", "c"]), ("c", ["c", "d"])]
        said = {"messages": [{"role": "user", "content": "Hello."}]}
        for model in ("a", "b", "c", "d"):
            answer = await router.post("/v1/chat/completions", {**said, "model": model})
            assert answer.json()["choices"][0]["message"]["content"] == model
        for body in (said, {**said, "model": "default"}):
            answer = await router.post("/v1/chat/completions", body)
            assert answer.status_code == 400
            assert "several models are served here; name one in `model`: a, b, c, d." in answer.text
        answer = await router.post("/v1/chat/completions", {**said, "model": "e"})
        assert (answer.status_code, "served: a, b, c, d." in answer.text) == (404, True)
        metrics = (await router.http.get("/metrics")).text
        for model, count in (("a", 1), ("b", 1), ("c", 2), ("d", 1)):
            sample = rf'smg_worker_pool_size{{.*model="{model}".*}} {count}\.0'
            assert re.search(sample, metrics)
        await router.settled()


@pytest.mark.parametrize("named", [{}, {"model": None}, {"model": "default"}, {"model": "only"}])
def test_a_server_is_told_the_model_that_a_request_leaves_to_the_router(named: dict[str, Any]) -> None:
    async def test() -> None:
        gateway = Gateway("only")
        async with gateway.server, serving(plain=(gateway.server.url,)) as router:
            said = {"messages": [{"role": "user", "content": "Hello."}], "temperature": 0.5}
            assert (await router.post("/v1/chat/completions", {**said, **named})).status_code == 200
            assert gateway.server.to("/v1/chat/completions")[-1].json == {**said, "model": "only"}
            await router.settled()

    run(test)


@aio
async def test_models_come_and_go() -> None:
    gateway = Gateway("a", "b")
    async with gateway.server:
        registry = Registry([plain(gateway.server)])
        await registry.probe()
        assert registry.models() == ["a", "b"]
        gateway.models = ["b", "c"]
        await registry.probe()
        assert registry.models() == ["b", "c"]
        with pytest.raises(NotFound, match=r"^the model 'a' is not served here; served: b, c\.$"):
            registry.usable("a", "plain")
        gateway.models = []
        await registry.probe()
        with pytest.raises(NoWorker, match="no plain server of the model 'b' is healthy"):
            registry.usable("b", "plain")
        registry.close()


def lost(worker: Worker, *, usable_before: bool = False) -> WorkerHealth:
    """The health of a worker that is not well, and that was used until now or never was."""
    health = WorkerHealth(worker.url, HealthSettings())
    if usable_before:
        health.expect()
    return health


def test_a_plain_server_that_is_away_takes_no_model_from_its_pair() -> None:
    pair = [Worker(f"http://{role}:1", role, models=("m",), healthy=True) for role in PAIR_ROLES]
    gateway = Worker("http://h:3", "plain", models=("x", "m"), healthy=True)
    registry = Registry([*pair, gateway])
    assert not registry.served_by_pairs("m")
    gateway.health = lost(gateway)
    assert registry.served_by_pairs("m")
    assert not registry.served_by_pairs("x")
    assert registry.served_by_pairs("unknown")
    gateway.health = lost(gateway, usable_before=True)  # it may restart: only what nothing else serves is waited for
    assert (registry.recovering("m"), registry.recovering("x")) == (False, True)
    pair[0].health = lost(pair[0], usable_before=True)
    assert registry.recovering("m")


@aio
async def test_trees_run_on_every_model_of_a_server(tmp_path: Any) -> None:
    """Agents name them, or get them in turn."""
    gateway = Gateway("a", "b")
    agents = [{"name": "p1", "max_tokens": 5}, {"name": "p2", "max_tokens": 5}]
    final = {"name": "final", "reads": ["c1"], "model": "b", "max_tokens": 5}
    layers = [
        {"clusters": [{"name": "c1", "agents": agents}]},
        {"clusters": [{"name": "end", "agents": [final]}]},
    ]
    trees = tmp_path / "trees.json"
    trees.write_bytes(orjson.dumps({"trees": [{"name": "moa", "arm": "tree", "layers": layers}]}))
    async with gateway.server, serving(plain=(gateway.server.url,), trees=trees) as router:
        body = {"model": "moa", "messages": [{"role": "user", "content": "Why?"}]}
        answer = (await router.post("/v1/chat/completions", body)).json()
        assert answer["choices"][0]["message"]["content"] == "b"
        assert [(each["agent"], each["model"], each["text"]) for each in answer["moa"]["agents"]] == [
            ("p1", "a", "a"),
            ("p2", "b", "b"),
            ("final", "b", "b"),
        ]
        await router.settled()
