"""Replays a row: a router as its command line starts it, before mock servers."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx

from router.errors import RouterError
from tests.router.parity.mock_sglang import MODEL, MockServer
from tests.router.parity.rows import MODES, NAMES, Row, Step
from tests.router.support.aio import until
from tests.router.support.fakes import Call
from tests.router.support.serving import Serving, serving_as

PATIENCE = 30.0  # seconds for what is right only after a while


class Replay:
    """A row being replayed; raises `AssertionError` where an answer is not right."""

    def __init__(self, row: Row, router: Serving, servers: dict[str, MockServer]) -> None:
        self._row = row
        self._router = router
        self._servers = servers
        self._words = {name: server.url for name, server in servers.items()}

    async def run(self) -> None:
        """Send each step's requests."""
        for step in self._row.steps:
            if step.fault is not None:
                for name, server in self._servers.items():
                    server.fault = step.fault.get(name)
            await self._eventually(step) if step.eventually else await self._once(step)

    async def _eventually(self, step: Step) -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            try:
                return await self._once(step)
            except AssertionError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(0.02)

    async def _once(self, step: Step) -> None:
        method, path = self._filled(step.send).split(" ", 1)
        before = {name: len(server.calls) for name, server in self._servers.items()}
        answers = [await self._send(step, method, path, number) for number in range(step.times)]
        told = f"{self._row.request}: {method} {path} {[a.status_code for a in answers]} {answers[-1].text[:300]}"
        _check_statuses(step, [answer.status_code for answer in answers], told)
        _check_answer(step, answers[-1], self._filled(step.text), told)
        at = step.asked_at or path
        calls = {
            name: [call for call in server.calls[before[name] :] if call.path == at]
            for name, server in self._servers.items()
        }
        _check_servers(step, calls, told)
        if "worker_id" in answers[-1].text:
            self._words["id"] = answers[-1].json()["worker_id"]

    async def _send(self, step: Step, method: str, path: str, number: int) -> httpx.Response:
        body = self._filled(step.body, number)
        headers = self._filled(step.headers)
        if isinstance(body, str):
            return await self._router.http.request(method, path, content=body, headers=headers)
        return await self._router.http.request(method, path, json=body, headers=headers)

    def _filled(self, value: Any, number: int = 0) -> Any:
        if isinstance(value, dict):
            return {name: self._filled(each, number) for name, each in value.items()}
        if isinstance(value, list):
            return [self._filled(each, number) for each in value]
        if isinstance(value, str):
            for word, meant in (*self._words.items(), ("n", str(number)), ("model", MODEL)):
                value = value.replace(f"{{{word}}}", meant)
        return value


def _check_statuses(step: Step, statuses: list[int], told: str) -> None:
    if step.status is not None:
        assert statuses == (step.status if isinstance(step.status, list) else [step.status] * step.times), told
    if step.statuses:
        assert Counter(map(str, statuses)) == step.statuses, told
    if step.any_of:
        assert set(statuses) <= set(step.any_of), told


def _check_answer(step: Step, answer: httpx.Response, text: list[str], told: str) -> None:
    if step.has or step.keys:
        assert answer.headers["content-type"].startswith("application/json"), told
    for place, value in step.has.items():
        assert _at(answer.json(), place) == value, told
    for key in step.keys:
        assert key in answer.json(), told
    for words in text:
        assert words in answer.text, told
    for name, value in step.back.items():
        assert answer.headers.get(name) == value or (value == "*" and name in answer.headers), (
            f"{told} {answer.headers}"
        )


def _check_servers(step: Step, calls: dict[str, list[Call]], told: str) -> None:
    counts = {name: len(got) for name, got in calls.items() if got}
    if step.asked:
        assert counts == step.asked, f"{told} asked {counts}"
    for name, least in step.least.items():
        assert counts.get(name, 0) >= least, f"{told} asked {counts}"
    for got in calls.values():
        for call in got:
            for header, value in step.got.items():
                assert call.headers.get(header) == value, f"{told}: a worker got {call.headers}"
            assert not set(step.kept) & set(call.headers), f"{told}: a worker got {call.headers}"


def _at(value: Any, place: str) -> Any:
    """The value at a place; fails where there is none."""
    for part in place.split("."):
        if part == "#":
            return len(value)
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            raise AssertionError(f"there is no {place} in {value!r}")
    return value


@asynccontextmanager
async def replaying(row: Row) -> AsyncIterator[Replay]:
    """The servers, and a router before those that the row's mode names; it has found those."""
    async with AsyncExitStack() as stack:
        servers = {name: MockServer(name, _role(name), row.key) for name in NAMES}
        for server in servers.values():
            await stack.enter_async_context(server)
        command = [*MODES[row.mode], *row.start]
        for name, server in servers.items():
            command = [word.replace(f"{{{name}}}", server.url) for word in command]
        try:
            router = await stack.enter_async_context(serving_as(*command))
        except (RouterError, SystemExit) as problem:
            raise AssertionError(f"it does not start: {problem}") from problem
        if row.mode in ("pd", "plain") and row.key is None:
            await until(lambda: router.supervisor.unready_reason() is None, "it is ready")
        for server in servers.values():
            server.calls.clear()
        yield Replay(row, router, servers)


def _role(name: str) -> Any:
    return "null" if name.startswith("plain") else name[:-1]
