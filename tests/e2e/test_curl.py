"""The command lines of SGLang's documentation, with the real curl, against a router in front of a real pair."""

import json
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.routers import OwnRouter, own_router
from tests.e2e.servers import TIMEOUT, Servers, generate, nothing_leaked, post, wait_for


@pytest.fixture(scope="module")
def router(servers: Servers) -> Iterator[OwnRouter]:
    """One model, as in the documentation: its native requests name none."""
    with own_router(servers) as router:
        yield router
        assert nothing_leaked(router.url)


def curl(router: OwnRouter, line: str) -> tuple[int, str]:
    """Run a command line of the documentation; return the answer's status and body."""
    line = line.replace("http://localhost:30000", router.url)
    arguments = ["--silent", "--show-error", "--max-time", f"{TIMEOUT:g}", "--write-out", "\n%{http_code}"]
    done = subprocess.run([*shlex.split(line), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def answer(router: OwnRouter, line: str) -> Any:
    status, body = curl(router, line)
    assert status == 200, body
    return json.loads(body)


def in_flight(router: OwnRouter) -> list[int]:
    """The requests on each worker."""
    return [worker["in_flight"] for worker in answer(router, "curl http://localhost:30000/get_server_info")["workers"]]


def events(router: OwnRouter, line: str) -> list[dict[str, Any]]:
    """The events of a stream, which must end with `[DONE]`."""
    status, body = curl(router, line)
    assert status == 200, body
    *told, done = [line.removeprefix("data: ") for line in body.splitlines() if line]
    assert done == "[DONE]"
    return [json.loads(event) for event in told]


GENERATE = """curl http://localhost:30000/generate -H "Content-Type: application/json" -d '{
    "text": "The capital of France is",
    "sampling_params": {"max_new_tokens": 16, "temperature": 0}%s
}'"""


def test_generate(router: OwnRouter, servers: Servers) -> None:
    told = answer(router, GENERATE % "")
    assert told["text"] == generate(servers.plain, "The capital of France is", 16)["text"]
    assert told["meta_info"]["completion_tokens"] == 16


def test_generate_in_pieces(router: OwnRouter) -> None:
    pieces = events(router, GENERATE % ', "stream": true')
    assert len(pieces) > 1
    assert pieces[-1]["text"] == answer(router, GENERATE % "")["text"]
    assert pieces[-1]["meta_info"]["finish_reason"] == {"type": "length", "length": 16}


CHAT = """curl -s http://localhost:30000/v1/chat/completions -H "Content-Type: application/json" -d '{
    "model": "smol",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "temperature": 0,
    "max_tokens": 8%s
}'"""


def test_chat(router: OwnRouter, servers: Servers) -> None:
    whole = answer(router, CHAT % "")
    assert whole["object"] == "chat.completion"
    asked = {"model": servers.model, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    plain = post(f"{servers.plain}/v1/chat/completions", {**asked, "temperature": 0, "max_tokens": 8}).json()
    assert whole["choices"][0]["message"]["content"] == plain["choices"][0]["message"]["content"] != ""
    pieces = events(router, CHAT % ', "stream": true')
    told = "".join(piece["choices"][0]["delta"].get("content") or "" for piece in pieces)
    assert told == whole["choices"][0]["message"]["content"]


def test_an_offer_of_http2(router: OwnRouter) -> None:
    assert answer(router, (CHAT % "").replace("curl -s", "curl -s --http2")) is not None


def test_head(router: OwnRouter) -> None:
    assert curl(router, "curl --head http://localhost:30000/health")[0] == 200


def test_completions(router: OwnRouter, servers: Servers) -> None:
    line = """curl http://localhost:30000/v1/completions -H "Content-Type: application/json" -d '{
        "model": "smol", "prompt": "The capital of France is", "temperature": 0, "max_tokens": 4
    }'"""
    told = answer(router, line)
    assert told["usage"]["completion_tokens"] == 4
    assert told["choices"][0]["text"] == generate(servers.plain, "The capital of France is", 4)["text"] != ""


def test_information(router: OwnRouter, servers: Servers) -> None:
    models = answer(router, "curl http://localhost:30000/v1/models")
    assert [model["id"] for model in models["data"]] == ["smol", "moa"]
    assert answer(router, "curl http://localhost:30000/get_model_info")["is_generation"] is True
    info = answer(router, "curl http://localhost:30000/get_server_info")
    assert [worker["url"] for worker in info["workers"]] == [servers.prefill, servers.decode]
    assert wait_for(lambda: in_flight(router) == [0, 0]), "the test before this one is answered"


@pytest.mark.parametrize("path", ["health", "health_generate"])
def test_health(router: OwnRouter, path: str) -> None:
    assert answer(router, f"curl http://localhost:30000/{path}") == {"status": "ok", "models": ["smol"]}


def test_flush_cache(router: OwnRouter, servers: Servers) -> None:
    """As it is documented, with an empty POST; what was cached is computed again."""
    cached = json.dumps({"text": "Flushed later, cached now.", "sampling_params": {"max_new_tokens": 1}})
    line = f"curl http://localhost:30000/generate -d {shlex.quote(cached)}"
    assert [answer(router, line)["meta_info"]["cached_tokens"] > 0 for _ in range(2)] == [False, True]
    assert nothing_leaked(router.url), "SGLang flushes only when it is idle"
    told = answer(router, "curl -X POST http://localhost:30000/flush_cache")
    assert (told["status"], told["workers_flushed"]) == ("success", 2)
    assert answer(router, line)["meta_info"]["cached_tokens"] == 0
