"""Votes in a tree: a cluster exits when its answers are surely the same (fake servers: they say what a case needs)."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.router.moa.test_run_failures import by_name, write_tree
from tests.router.support.aio import aio, within
from tests.router.support.fakes import Call, FakeServer, whole
from tests.router.support.serving import Serving, serving

QUESTION = {"model": "moa", "messages": [{"role": "user", "content": "What is it?"}], "moa": {"arm": "exit"}}


class Plain:
    """A fake server of OpenAI's chat API whose agents, known by their system prompts, say what they are told to."""

    def __init__(self, said: dict[str, str]) -> None:
        self.said = said
        self.third = asyncio.Event()  # set: the third agent answers
        self.server = FakeServer(self._handle)

    async def _handle(self, call: Call) -> None:
        if call.path == "/v1/models":
            await call.answer({"data": [{"id": "other", "max_model_len": 4096}]})
        elif call.path == "/v1/chat/completions":
            name = call.json["messages"][0]["content"]
            if name == "c":
                await self.third.wait()
            choice = {"index": 0, "delta": {"content": self.said.get(name, "done")}, "finish_reason": "stop"}
            await call.stream({"choices": [choice]})
            await call.event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}})
            await call.done()
        else:
            await call.send(whole(b"", 404))


async def _first_decision(router: Serving) -> Any:
    """That of the only run, as soon as its trace has one."""
    while True:
        for run in (await router.http.get("/runs")).json()["runs"]:
            for decision in (await router.http.get(f"/runs/{run['run']}")).json()["decisions"]:
                return decision
        await asyncio.sleep(0.01)


async def ask(tmp_path: Path, a: str, b: str) -> Any:
    """The trace of a tree whose agents a and b answer at once, and whose third waits for their decision."""
    plain = Plain({"a": a, "b": b})

    def agent(name: str, *reads: str) -> dict[str, Any]:
        return {"name": name, "role": name, "model": "other", "reads": reads, "max_tokens": 5}

    layers = [
        {"clusters": [{"name": "voters", "agents": [agent("a"), agent("b"), agent("c")]}]},
        {"clusters": [{"name": "end", "agents": [agent("final", "voters")]}]},
    ]
    trees = write_tree(tmp_path, layers=layers, exit={"rule": "dmv"})
    async with plain.server, serving(trees=trees, plain=(plain.server.url,)) as router:
        asked = asyncio.ensure_future(router.post("/v1/chat/completions", QUESTION))
        if not (await within(5.0, _first_decision(router)))["exit"]:
            plain.third.set()
        answer = (await within(5.0, asked)).json()
        assert answer["choices"][0]["message"]["content"] == "done"
        await router.settled()
        return answer


@pytest.mark.case("5.live_votes")
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("The answer is J. K. Rowling.", "The answer is J. R. R. Tolkien."),
        ("The answer is 1 million.", "The answer is 1 billion."),
        ("The answer is at least 5.", "The answer is less than 5."),
        ("The answer is St. Louis.", "The answer is St. Petersburg."),
        ("The answer is 10^3.", "The answer is 10^2."),
        (r"\boxed{1,2}", r"\boxed{1,3}"),
        ("The answer is 2a.", "The answer is 2b."),
        ("The answer is 4.", "The answer is 5."),
    ],
    ids=lambda text: text[-12:],
)
@aio
async def test_public_case_different_answers_wait_for_the_third(tmp_path: Path, a: str, b: str) -> None:
    answer = await ask(tmp_path, a, b)
    (decision,) = answer["moa"]["decisions"]
    assert (decision["exit"], decision["majority"]) == (False, None)
    assert len(set(decision["extracted"])) == 2
    assert by_name(answer)["c"]["state"] == "done"


@aio
async def test_the_same_answer_in_two_spellings_ends_the_cluster(tmp_path: Path) -> None:
    answer = await ask(tmp_path, "The answer is 2.5 thousand dollars.", r"\boxed{2{,}500}")
    (decision,) = answer["moa"]["decisions"]
    assert (decision["exit"], decision["by"], decision["majority"]) == (True, "dmv", "2500")
    assert by_name(answer)["c"]["state"] == "aborted"
