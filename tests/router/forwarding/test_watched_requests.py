"""Policies that learn are told what becomes of the requests that they placed."""

from collections.abc import Callable
from typing import Any

import pytest

from router.forwarding.answer_tokens import tokens_of_response
from router.load_balancing import RequestWatch, RoundRobin
from router.workers.worker import Worker
from tests.router.forwarding.test_plain_attempts import BODY, CHAT, Two
from tests.router.support.aio import aio, until
from tests.router.support.fakes import Call, FakePair, whole
from tests.router.support.serving import serving


class Recorder(RoundRobin):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def sent(self, worker: Worker, *, streams: bool) -> RequestWatch:
        self.told.append("streams" if streams else "whole")
        return _Noting(self.told)


class _Noting(RequestWatch):
    def __init__(self, told: list[Any]) -> None:
        self._told = told

    def first_token(self) -> None:
        self._told.append("first")

    def ended(self, tokens: int | None) -> None:
        self._told.append(tokens)

    def given_up(self) -> None:
        self._told.append("over")


async def streamed(call: Call) -> None:
    await call.stream({"n": 1}, {"n": 2})
    await call.done()


@pytest.mark.parametrize(
    ("answer", "more", "told"),
    [
        (streamed, {"stream": True}, ["streams", "first", 3, "over"]),
        (lambda call: call.answer({"usage": {"completion_tokens": 7}}), {}, ["whole", 7, "over"]),
        (lambda call: call.answer({"served": True}), {}, ["whole", None, "over"]),
        (lambda call: call.answer({"error": "no"}, 400), {}, ["whole", "over"]),
    ],
)
@aio
async def test_plain_servers(answer: Callable[[Call], Any], more: dict[str, Any], told: list[Any]) -> None:
    async with Two() as two:
        policy = two.router.dispatcher.selector._policies["plain"] = Recorder()
        for server in two.servers:
            server.answer = answer
        await two.chat(**more)
        await two.router.answered()
        assert policy.told == told


@aio
async def test_a_refused_request_is_not_watched() -> None:
    async with Two() as two:
        policy = two.router.dispatcher.selector._policies["plain"] = Recorder()
        assert (await two.chat(rid=7)).status_code == 400
        assert policy.told == []


@aio
async def test_a_retry_is_another_request() -> None:
    async def failing(call: Call) -> None:
        await call.send(whole(b"{}", 503))

    async with Two() as two:
        policy = two.router.dispatcher.selector._policies["plain"] = Recorder()
        two.servers[0].answer = failing
        for _ in range(2):
            assert (await two.chat()).status_code == 200
        await two.router.answered()
        assert policy.told.count("whole") == policy.told.count("over") == 4


@pytest.mark.parametrize("stream", [False, True])
@aio
async def test_pairs(stream: bool) -> None:
    async with serving(FakePair("m")) as router:
        prefill, decode = Recorder(), Recorder()
        router.dispatcher.selector._policies |= {"prefill": prefill, "decode": decode}
        assert (await router.post(CHAT, {**BODY, "stream": stream})).status_code == 200
        await until(lambda: "over" in prefill.told, "the request has ended")
        assert prefill.told == ["streams", "first", "over"]
        assert decode.told[0] == ("streams" if stream else "whole")
        assert ("first" in decode.told) is stream
        assert decode.told[-1] == "over"


def test_only_the_usage_at_the_end_counts() -> None:
    text = b'{"text": "\\"completion_tokens\\": 3", ' + b" " * 5_000 + b'"usage": {"completion_tokens": 12}}'
    assert tokens_of_response(text) == 12
    assert tokens_of_response(text.replace(b"usage", b"tokens").replace(b"12", b"many")) is None
