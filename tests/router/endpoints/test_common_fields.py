"""Fields that mean the same on every generating path, and bodies that no path can read or send on."""

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.router.moa.test_run_failures import OpenAIServer
from tests.router.moa.test_tree_runs import Agents
from tests.router.support.aio import aio, run
from tests.router.support.fakes import FakePair
from tests.router.support.serving import Serving, serving

CHAT, COMPLETIONS, GENERATE = "/v1/chat/completions", "/v1/completions", "/generate"
MESSAGES = [{"role": "user", "content": "hi"}]
# Every kind of who answers: a path, and a body that is right.
KINDS: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"model": "fake", "messages": MESSAGES}),
    (COMPLETIONS, {"model": "fake", "prompt": "hi"}),
    (GENERATE, {"model": "fake", "text": "hi"}),
    (CHAT, {"model": "other", "messages": MESSAGES}),
    (COMPLETIONS, {"model": "other", "prompt": "hi"}),
    (CHAT, {"model": "moa", "messages": MESSAGES}),
    (COMPLETIONS, {"model": "moa", "prompt": "hi"}),
    (CHAT, {"model": "fake", "messages": MESSAGES, "run": "r"}),
    (COMPLETIONS, {"model": "fake", "prompt": "hi", "run": "r"}),
    (GENERATE, {"model": "fake", "text": "hi", "run": "r"}),
]


async def refused(router: Serving, path: str, body: Any, words: str, status: int = 400) -> None:
    answer = await router.post(path, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, status), (path, body, answer.text)
    assert words in answer.json()["error"]["message"]


@pytest.mark.case("2.n_odd", "6.n_zero")
@pytest.mark.parametrize("n", [0, -1, 0.5, "0", -(10**30)], ids=str)
def test_public_case_too_few_samples(n: Any) -> None:
    async def test() -> None:
        pair, plain = FakePair(), OpenAIServer()
        async with plain.server, serving(pair, plain=(plain.server.url,)) as router:
            before = len(plain.server.calls)
            for path, body in KINDS:
                await refused(router, path, {**body, "n": n}, "`n` must be 1")
                if path == GENERATE:
                    await refused(router, path, {**body, "sampling_params": {"n": n}}, "`n` must be 1")
            batch = {"text": ["a", "b"], "model": "fake", "sampling_params": [{"n": 1}, {"n": n}]}
            await refused(router, GENERATE, batch, "`n` must be 1")
            assert pair.prefill.requests == pair.decode.requests == []
            assert len(plain.server.calls) == before

    run(test)


@pytest.mark.parametrize(("text", "params"), [("a", {"n": "1"}), (["a", "b"], [{"n": 1}, {"n": "2"}])], ids=str)
def test_samples_in_sampling_params_are_a_number(text: Any, params: Any) -> None:
    """SGLang 0.5.17 converts a string at the top only, and breaks a stream's connection at one in there."""

    async def test() -> None:
        pair, plain = FakePair(), OpenAIServer()
        async with plain.server, serving(pair, plain=(plain.server.url,)) as router:
            before = len(plain.server.calls)
            for path, body in KINDS:
                if path == GENERATE:
                    sent = {**body, "text": text, "sampling_params": params}
                    await refused(router, path, sent, "`n` must be 1 or more, as a number.")
            assert pair.prefill.requests == pair.decode.requests == []
            assert len(plain.server.calls) == before

    run(test)


@pytest.mark.parametrize("stream", ["yes", "true", 1, 0, [], {}], ids=str)
def test_stream_is_true_or_false(stream: Any) -> None:
    async def test() -> None:
        pair, plain = FakePair(), OpenAIServer()
        async with plain.server, serving(pair, plain=(plain.server.url,)) as router:
            for path, body in KINDS:
                await refused(router, path, {**body, "stream": stream}, "`stream` must be true or false.")
            assert pair.decode.requests == []

    run(test)


@pytest.mark.parametrize("field", [{"best_of": 2}, {"suffix": "."}, {"suffix": 5}], ids=str)
def test_what_the_servers_would_ignore_is_refused(field: dict[str, Any]) -> None:
    """A plain server that is not SGLang may know more, and is asked."""

    async def test() -> None:
        plain, pair = OpenAIServer(), FakePair()
        async with plain.server, serving(pair, plain=(plain.server.url,)) as router:
            (name,) = field
            for path, body in KINDS:
                if body["model"] == "other":
                    await router.post(path, {**body, **field})
                    assert plain.server.calls[-1].json[name] == field[name]
                else:
                    await refused(router, path, {**body, **field}, f"`{name}`")
            assert pair.decode.requests == []
            worker = next(each for each in router.registry.workers if each.role == "plain")
            worker.report = replace(worker.report, sglang="0.5.17")
            await refused(router, COMPLETIONS, {"model": "other", "prompt": "hi", **field}, f"`{name}`")

    run(test)


@aio
async def test_what_changes_nothing_is_taken() -> None:
    async with serving(FakePair()) as router:
        for field in ({"best_of": 1}, {"best_of": None}, {"suffix": ""}, {"suffix": None}, {"stream": None}):
            body = {"model": "fake", "prompt": "hi", **field}
            assert (await router.post(COMPLETIONS, body)).status_code == 200


@aio
async def test_a_suffix_for_servers_with_a_completion_template() -> None:
    pair = FakePair()
    for worker in (pair.prefill, pair.decode):
        worker.info["completion_template"] = "qwen_coder"
    async with serving(pair) as router:
        body = {"model": "fake", "prompt": "hi", "suffix": "."}
        assert (await router.post(COMPLETIONS, body)).status_code == 200
        assert pair.decode.requests[0].json["suffix"] == "."


@pytest.mark.case("6.deep_json")
@pytest.mark.parametrize("levels", [260, 900, 1_500, 100_000])
def test_public_case_deep_json(levels: int, tmp_path: Path) -> None:
    """Also in a long body, whose values are not parsed, and where a body is sent on or stored in another form."""

    async def test() -> None:
        agents = Agents()
        deep = b"[" * levels + b"]" * levels
        async with serving(agents.pair) as router:
            for path, body in KINDS:
                if body["model"] == "other":
                    continue
                text = orjson.dumps(body).replace(b'"hi"', deep)
                for raw in (text, text[:-1] + b',"pad":"' + b"x" * 70_000 + b'"}'):
                    answer = await router.http.post(path, content=raw)
                    assert answer.status_code == 400, answer.text
                    assert "error" in answer.json()
            for path in ("/v1/tokenize", "/v1/detokenize", "/v1/rerank", "/workers"):
                answer = await router.http.post(path, content=b'{"model":"fake","tokens":' + deep + b"}")
                assert answer.status_code == 400
            assert agents.pair.decode.requests == []

    run(test)


@pytest.mark.parametrize("levels", [1, 100, 240])
def test_nesting_that_is_not_too_deep_is_sent_on(levels: int) -> None:
    async def test() -> None:
        pair = FakePair()
        async with serving(pair) as router:
            body = b'{"text":"x","a":' + b"[" * levels + b"]" * levels + b"}"
            assert (await router.http.post(GENERATE, content=body)).status_code == 200
            assert orjson.dumps(pair.decode.requests[0].json["a"]) == b"[" * levels + b"]" * levels

    run(test)


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP, identity"])
@pytest.mark.parametrize("path", [CHAT, GENERATE, "/v1/tokenize", "/workers"])
def test_compressed_bodies(path: str, encoding: str) -> None:
    async def test() -> None:
        pair = FakePair()
        async with serving(pair) as router:
            raw = gzip.compress(b'{"text": "x"}')
            answer = await router.http.post(path, content=raw, headers={"content-encoding": encoding})
            assert answer.status_code == 415
            message = answer.json()["error"]["message"]
            assert message.startswith(f"the body has the content-encoding {encoding!r}, which is not read here")
            assert pair.decode.requests == []
            plain = {"content-encoding": "identity"}
            assert (await router.http.post(GENERATE, json={"text": "x"}, headers=plain)).status_code == 200

    run(test)
