"""schemathesis over every operation of `/openapi.json`, against healthy workers: nothing may fail but by the document.

The workers are fakes, which answer whatever they are asked: what a real server thinks of a body is not the router's
doing. FUZZ_CASES says how many requests are made, by default 1,000, or what the hypothesis profile says.
"""

import math
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.result import Ok

from router.endpoints.passed_paths import PASSED_PATHS, RESPONSES_PATH
from router.endpoints.routes import Route
from router.http_client.address import WORKER_ADDRESS
from router.request_checks.batches import batch_size
from router.request_checks.refused_fields import HARMFUL_FIELDS, RESERVED_FIELDS
from router.server.settings import ServerSettings
from tests.router.support.fakes import Call, FakePair, chat_event, native_event, toy_ids
from tests.router.support.plain import PlainServer
from tests.router.support.serving import Serving, serving
from tests.router.support.threaded import in_thread, threaded

Operation = APIOperation[Any, Any, Any, Any]

OF_PROFILE = {"quick": 100, "nightly": 100_000}
CASES = int(os.environ.get("FUZZ_CASES") or OF_PROFILE.get(settings.get_current_profile_name(), 1_000))
GENERATING = {"/generate", "/v1/chat/completions", "/v1/completions"}
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
)


class Willing(FakePair):
    """A pair that answers everything, in the form it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        for worker in (self.prefill, self.decode):
            tells = worker.server.handler
            worker.server.handler = self._answering(tells)

    def _answering(self, otherwise: Callable[[Call], Any]) -> Callable[[Call], Any]:
        answers: dict[str, Any] = {
            "/detokenize": {"text": "one"},
            "/get_load": [{"num_tokens": 0}],
            "/model_info": {"model_path": "there"},
            "/flush_cache": {},
            "/metrics": {},
            "/start_profile": {},
            "/stop_profile": {},
        }

        async def handle(call: Call) -> None:
            if call.path in answers:
                await call.answer(answers[call.path])
            elif call.path == "/tokenize":
                await _tokenized(call)
            else:
                await otherwise(call)

        return handle

    async def prefilled(self, call: Call) -> None:
        """Answer in the form of the batch."""
        if await call.waits_for(self.room(call)):
            await call.answer(_shaped(call, {"text": "", "meta_info": {"input_token_logprobs": []}}))

    async def decoded(self, call: Call) -> None:
        """Answer with two words."""
        self.room(call).set()
        if not call.json.get("stream"):
            await call.answer(_shaped(call, {"text": "one two", "meta_info": {"output_token_logprobs": []}}))
            return
        native = call.path == "/generate"
        index = {} if batch_size(call.json, call.path) is None else {"index": 0}
        first, last = native_event("one ", None) | index, native_event("one two", "stop", (3, 2)) | index
        await call.stream(*((first, last) if native else (chat_event("one "), chat_event("two", "stop"))))
        await call.done()


async def _tokenized(call: Call) -> None:
    try:
        await call.answer({"tokens": toy_ids(call.json)})
    except (KeyError, TypeError):
        await call.answer({"object": "error", "message": "no text and no messages"}, 400)


def _shaped(call: Call, answer: dict[str, Any]) -> Any:
    size = batch_size(call.json, call.path)
    if call.path in {"/v1/chat/completions", "/v1/completions"}:
        return {"choices": [{"index": index, **answer} for index in range(size or 1)]}
    return answer if size is None else [answer] * size


def cases(operation: Operation) -> st.SearchStrategy[Case[Any]]:
    """Requests by the document and, where there is anything to be wrong, against it."""
    modes = [GenerationMode.POSITIVE]
    if operation.body or operation.path_parameters:
        modes.append(GenerationMode.NEGATIVE)
    return st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])


def document(client: Serving) -> dict[str, Any]:
    """The router's own, in which `model` is mostly a name that is served: another would end nearly every request."""
    told: dict[str, Any] = requests.get(f"{client.url}/openapi.json", timeout=60).json()
    for path in told["paths"].values():
        body = path.get("post", {}).get("requestBody")
        fields = body["content"]["application/json"]["schema"]["properties"] if body else {}
        if "model" in fields:
            fields["model"] = {"enum": [None, "fake", "default", "moa", "nobody"]}
    return told


def test_everything_by_the_document(subtests: pytest.Subtests, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Willing()
    with threaded(pair) as client, requests.Session() as session:
        # A worker that is taken in is probed, under a name that nobody but a fuzzer knows.
        monkeypatch.setattr(client.supervisor, "probe_soon", lambda _: None)
        schema = schemathesis.openapi.from_dict(document(client))
        schema.config.update(base_url=client.url)
        operations = [each.ok() for each in schema.get_all_operations() if isinstance(each, Ok)]
        open_ended = [each for each in operations if each.body or each.path_parameters]
        share = math.ceil((CASES - len(operations) + len(open_ended)) / len(open_ended))
        statuses: Counter[tuple[str, int]] = Counter()
        for operation in operations:
            with subtests.test(operation.label):
                fuzz(operation, session, share, statuses, client)
        print(f"{statuses.total()} requests:", dict(sorted(statuses.items())))
        assert statuses.total() >= 0.9 * CASES, statuses
        sent = [call.json for call in (*pair.prefill.requests, *pair.decode.requests) if call.path in GENERATING]
        assert not any(body.get(name) for body in sent for name in HARMFUL_FIELDS)
        assert {_only(body["bootstrap_host"]) for body in sent} == {"127.0.0.1"}
        assert {_only(body["bootstrap_port"]) for body in sent} == {1}


def _only(told: Any) -> Any:
    """What all prompts of a batch have in common, or a single one has."""
    (common,) = set(told) if isinstance(told, list) else {told}
    return common


def fuzz(
    operation: Operation, session: requests.Session, share: int, statuses: Counter[tuple[str, int]], client: Serving
) -> None:
    """Make a share of the requests with one operation."""
    checks: list[Any] = [CHECKS.get_one(name) for name in CHECKED]

    @settings(
        max_examples=share,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=cases(operation))
    def make(case: Case[Any]) -> None:
        answer = case.call(session=session, timeout=60)
        statuses[operation.label, answer.status_code] += 1
        case.validate_response(answer, checks=checks)
        body = case.body if isinstance(case.body, dict) else {}
        if operation.path in GENERATING and any(body.get(name) is not None for name in RESERVED_FIELDS):
            assert answer.status_code == 400
        if operation.label == "POST /workers" and answer.status_code == 202:
            assert re.fullmatch(WORKER_ADDRESS, str(body["url"]))
            assert session.delete(client.url + answer.json()["location"], timeout=60).status_code == 202

    make()


@asynccontextmanager
async def before_a_plain_server() -> AsyncIterator[Serving]:
    """A router before a plain server of the model `fake` that answers everything."""
    server = PlainServer("fake")
    server.answer = server.help = lambda call: call.answer({"text": "one", "id": "resp_own"})
    async with server, serving(plain=(server.url,)) as client:
        yield client


def test_what_is_passed_to_plain_servers(subtests: pytest.Subtests) -> None:
    """The paths that a pair refuses, where they are served."""
    paths = {path for each in (*PASSED_PATHS, RESPONSES_PATH) for path in each.paths}
    with in_thread(before_a_plain_server) as client, requests.Session() as session:
        schema = schemathesis.openapi.from_dict(document(client))
        schema.config.update(base_url=client.url)
        statuses: Counter[tuple[str, int]] = Counter()
        for operation in [each.ok() for each in schema.get_all_operations() if isinstance(each, Ok)]:
            if operation.path in paths:
                with subtests.test(operation.label):
                    fuzz(operation, session, max(1, CASES // 60), statuses, client)
        answered = {path for (path, status) in statuses if status == 200}
        assert answered >= {f"POST {path}" for path in paths}, statuses


# Of an address: what may stand there, and what may not.
PARTS = (
    (("", "http://", "HTTP://", "https://"), ("ftp://", "file://", "//", "ws://", "http:", "http:/")),
    (("",), ("user@", "user:word@", "127.0.0.1:1@")),
    (("127.0.0.1", "decode-0.example", "[::1]"), ("a b", "h%00", "[::1", "\xfc", "")),
    (("", ":1", ":65535"), (":0", ":65536", ":-1", ":x", ":1:2", ": 1")),
    (("", "/"), ("/elsewhere", "//", "/..", "?to=elsewhere", "#elsewhere", ";elsewhere", "\\x", "\n", " ", "\r\nx: y")),
)


def test_worker_addresses_that_point_elsewhere() -> None:
    """An address is a host and a port, and the worker that is taken in has just these."""
    with threaded(Willing()) as client, requests.Session() as session, pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.supervisor, "probe_soon", lambda _: None)
        taken = 0

        @settings(max_examples=CASES // 20, deadline=None, derandomize=True, database=None)
        @given(st.tuples(*(st.sampled_from(well) | st.sampled_from(odd) for well, odd in PARTS)))
        def add(parts: tuple[str, ...]) -> None:
            nonlocal taken
            answer = session.post(
                f"{client.url}/workers", json={"url": "".join(parts), "worker_type": "decode"}, timeout=60
            )
            if not all(part in well for part, (well, _) in zip(parts, PARTS, strict=True)):
                assert answer.status_code == 400
                return
            taken += 1
            assert answer.status_code == 202
            scheme, port = ("https", ":443") if parts[0] == "https://" else ("http", ":80")
            assert answer.json()["url"] == f"{scheme}://{parts[2]}{parts[3] or port}"
            where = client.url + answer.json()["location"]
            assert session.delete(where, timeout=60).status_code == 202
            while session.get(where, timeout=60).status_code != 404:
                pass  # it is gone in a moment

        add()
        assert taken > 0


# Printable, of Latin-1: what HTTP libraries send.
LETTERS = st.sampled_from([chr(code) for code in (*range(0x21, 0x7F), *range(0xA1, 0x100))])
KEY = "correct-key"
NEARLY = st.sampled_from([KEY[:-1], KEY + "s", KEY.upper(), KEY + "\xe9", f"{KEY},{KEY}", f"{KEY} {KEY}"])


def test_wrong_keys() -> None:
    """No path but the public ones answers anything but 401, and no worker is asked anything."""
    pair = Willing()
    with threaded(pair, server=ServerSettings(api_key=KEY)) as client, requests.Session() as session:
        routes = [route for route in client.routes.all if route.right is not None]
        before = len(pair.decode.server.calls)

        @settings(max_examples=CASES // 20, deadline=None, derandomize=True, database=None)
        @given(
            st.sampled_from(routes),
            st.sampled_from(["", "Bearer ", "bearer ", "Bearer\t", "Basic ", "Bearer Bearer "]),
            st.text(LETTERS) | NEARLY,
        )
        def ask(route: Route, scheme: str, key: str) -> None:
            headers = {"authorization": f"{scheme}{key}".strip().encode("latin-1")}
            path = route.path.replace("{id}", "x")
            answer = session.request(route.method, client.url + path, headers=headers, data="{}", timeout=60)
            right = (scheme.lower(), key) == ("bearer ", KEY)
            assert (answer.status_code == 401) is not right

        ask()
        assert len(pair.decode.server.calls) == before
