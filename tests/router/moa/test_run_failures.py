"""What a run does when agents fail, agree early, or have other servers than pairs (fakes: to choose the moment)."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.early_exit import Agreement, JudgeError
from router.moa.idle_timeout import IdleTimeout
from router.moa.settings import RunSettings
from router.observability.run_store import RunStore
from router.observability.run_trace import AgentTrace, RunTrace
from tests.router.moa.test_tree_runs import (
    CHAT,
    Agents,
    hangs,
    last_message,
    refuses,
    says_an_error,
    small_tree,
    streams_then_hangs,
)
from tests.router.support.aio import aio, run, until, within
from tests.router.support.fakes import Call, FakeServer, native_event, whole
from tests.router.support.serving import Serving, serving


class FakeJudge:
    """Measures what it is told to (a fake: real answers do not have a chosen Q)."""

    def __init__(self, q: float = 1.0, problem: str | None = None, wait: float = 0.0) -> None:
        self.q, self.problem, self.wait = q, problem, wait
        self.asked: list[tuple[list[str], list[float]]] = []

    async def agreement(
        self,
        texts: Sequence[str],
        confidences: Sequence[float],
        gamma: float = 0.5,
        tau: float = 0.7,
        m: int = 1,
        similarity: str = "pooled",
        *,
        within: float = 10.0,
    ) -> Agreement:
        self.asked.append((list(texts), list(confidences)))
        await asyncio.sleep(self.wait)
        if self.problem:
            raise JudgeError(self.problem)
        size = len(texts)
        return Agreement(0.5, 0.7, 1.0, self.q, [[1.0] * size] * size)

    async def start(self) -> None: ...

    async def close(self) -> None: ...


def write_tree(tmp_path: Path, **tree: Any) -> Path:
    told = small_tree()
    told["trees"][0].update(tree)
    path = tmp_path / "trees.json"
    path.write_text(json.dumps(told))
    return path


async def post(router: Serving, **body: Any) -> Any:
    answer = await within(5.0, router.post("/v1/chat/completions", {**CHAT, **body}))
    return answer.json()


def by_name(answer: Any) -> dict[str, Any]:
    return {agent["agent"]: agent for agent in answer["moa"]["agents"]}


@pytest.fixture
def agents() -> Agents:
    return Agents()


# ---- failures


@pytest.mark.parametrize("name", ["p1", "agg2", "final"])
def test_an_agent_that_failed_is_asked_again(agents: Agents, tmp_path: Path, name: str) -> None:
    async def fails_once(call: Call) -> None:
        del agents.answer[name]
        await says_an_error(call)

    async def test() -> None:
        agents.answer[name] = fails_once
        async with serving(agents.pair, trees=write_tree(tmp_path, retries=1)) as router:
            answer = await post(router)
            assert answer["choices"][0]["message"]["content"] == "says final, done"
            agent = by_name(answer)[name]
            assert (agent["attempts"], agent["state"]) == (2, "done")
            assert "out of memory" in agent["error"]
            assert [call for call in agents.asked if call == name] == [name, name]
            await router.settled()

    run(test)


@aio
async def test_what_a_client_has_heard_is_not_said_anew(agents: Agents, tmp_path: Path) -> None:
    agents.answer["final"] = says_an_error
    async with serving(agents.pair, trees=write_tree(tmp_path, retries=3)) as router:
        answer = await router.post("/v1/chat/completions", {**CHAT, "stream": True})
        assert answer.text.count("partial") == 1
        assert agents.asked.count("final") == 1


@pytest.mark.parametrize("arm", ["tree", "splice"])
def test_a_cluster_goes_on_without_an_agent_that_failed(agents: Agents, tmp_path: Path, arm: str) -> None:
    async def test() -> None:
        agents.answer["p1"] = says_an_error
        async with serving(agents.pair, trees=write_tree(tmp_path, arm=arm, retries=1)) as router:
            answer = await post(router)
            assert answer["choices"][0]["message"]["content"] == "says final, done"
            states = {name: agent["state"] for name, agent in by_name(answer).items()}
            assert states == {**dict.fromkeys(states, "done"), "p1": "failed"}
            assert by_name(answer)["p1"]["attempts"] == 2
            read = last_message([c for c in agents.pair.decode.requests if Agents.name(c) == "agg1"][-1])
            assert read.count("\n- ") == 1, "only the answer that is there is listed"
            assert "says p2, done" in read
            await router.settled()

    run(test)


@aio
async def test_a_server_that_hangs_is_left(agents: Agents, tmp_path: Path) -> None:
    agents.answer["p3"] = hangs
    async with serving(agents.pair, trees=write_tree(tmp_path, timeout=1.0, retries=0)) as router:
        answer = await within(5.0, router.post("/v1/chat/completions", CHAT))
        assert answer.status_code == 504
        assert "agent p3 failed: its servers said nothing for 1 s" in answer.json()["error"]["message"]
        await router.freed()


# ---- early exit


@pytest.mark.parametrize("straggler", [streams_then_hangs, hangs])
def test_stragglers_are_aborted_on_both_servers(agents: Agents, tmp_path: Path, straggler: Any) -> None:
    async def test() -> None:
        tree = small_tree()
        tree["trees"][0]["layers"][0]["clusters"][0]["agents"].append(
            {"name": "p4", "role": "p4", "reads": [], "max_tokens": 5}
        )
        layers = tree["trees"][0]["layers"]
        agents.answer["p4"] = straggler
        judge = FakeJudge()
        async with serving(agents.pair, trees=write_tree(tmp_path, arm="exit", layers=layers), judge=judge) as router:
            answer = await post(router, seed=3)
            assert answer["choices"][0]["message"]["content"] == "says final, done"
            assert by_name(answer)["p4"]["state"] == "aborted"
            first = answer["moa"]["decisions"][0]
            assert (first["cluster"], first["exit"], first["Q"], sorted(first["answers"])) == (
                "c1",
                True,
                1.0,
                ["p1", "p2"],
            )
            assert "p4" not in last_message([c for c in agents.pair.decode.requests if Agents.name(c) == "agg1"][-1])
            await router.freed()
            rids = {Agents.name(call): call.json["rid"] for call in agents.pair.decode.requests}
            assert rids["p4"] in agents.pair.decode.aborted
            assert rids["p4"] in agents.pair.prefill.aborted

    run(test)


@aio
async def test_a_reader_that_spliced_a_straggler_takes_it_back(agents: Agents, tmp_path: Path) -> None:
    """Declared order: the first agent's words are in its reader's prompt when the others agree without it."""
    agents.answer["p1"] = streams_then_hangs
    tree = small_tree()
    tree["trees"][0]["layers"][0]["clusters"][0]["agents"].append({"name": "p4", "role": "p4", "max_tokens": 5})
    layers = tree["trees"][0]["layers"]
    async with serving(
        agents.pair, trees=write_tree(tmp_path, arm="exit", order="declared", layers=layers), judge=FakeJudge(wait=0.2)
    ) as router:
        answer = await post(router)
        assert by_name(answer)["p1"]["state"] == "aborted"
        read = last_message([c for c in agents.pair.decode.requests if Agents.name(c) == "agg1"][-1])
        assert "partial" not in read
        assert read.count("\n- ") == 2
        await router.freed()


@aio
async def test_a_judge_that_fails_or_is_slow_ends_no_run(agents: Agents, tmp_path: Path) -> None:
    tree = small_tree()["trees"][0]
    tree["layers"][0]["clusters"][0]["agents"].append({"name": "p4", "role": "p4", "max_tokens": 5})
    for judge in (FakeJudge(problem="the judge has no model"), FakeJudge(q=float("nan"))):
        agents.answer["p4"] = partial(_late, judge)
        trees = write_tree(tmp_path, arm="exit", layers=tree["layers"])
        async with serving(agents.pair, trees=trees, judge=judge) as router:
            answer = await post(router)
            assert answer["choices"][0]["message"]["content"] == "says final, done"
            (decision,) = answer["moa"]["decisions"]
            assert not decision["exit"]
            assert decision["problem"]
            assert by_name(answer)["p4"]["state"] == "done"
            await router.settled()


async def _late(judge: FakeJudge, call: Call) -> None:
    await until(lambda: bool(judge.asked), "the judge has been asked")
    await call.stream(native_event("late", "stop", (10, 3)))
    await call.done()


# ---- other servers


class OpenAIServer:
    """A fake server that speaks OpenAI's chat API only (a fake: the real ones are tested end to end)."""

    def __init__(self, model: str = "other", pause: float = 0.0) -> None:
        self.model = model
        self.pause = pause
        self.server = FakeServer(self._handle)
        self.asked: list[dict[str, Any]] = []

    async def _handle(self, call: Call) -> None:
        if call.path == "/v1/models":
            await call.answer({"data": [{"id": self.model, "max_model_len": 4096}]})
        elif call.path == "/v1/chat/completions":
            self.asked.append(call.json)
            await asyncio.sleep(self.pause)
            logprobs = {"content": [{"token": "x", "logprob": -0.1}]} if call.json.get("logprobs") else None
            first = {"index": 0, "delta": {"role": "assistant", "content": "fine "}, "logprobs": logprobs}
            second = {"index": 0, "delta": {"content": "words"}, "logprobs": logprobs, "finish_reason": "stop"}
            await call.stream({"choices": [first]}, {"choices": [second]})
            await call.event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}})
            await call.done()
        else:
            await call.send(whole(b"", 404))


@asynccontextmanager
async def with_plain(agents: Agents, trees: Path) -> Any:
    plain = OpenAIServer()
    async with (
        plain.server,
        serving(agents.pair, trees=trees, plain=(plain.server.url,), judge=FakeJudge(q=0.0)) as router,
    ):
        yield router, plain


@aio
async def test_agents_on_an_openai_compatible_server(agents: Agents, tmp_path: Path) -> None:
    """A pair and a plain server in one tree, each reading the other."""
    tree = small_tree(model="other")["trees"][0]
    tree["layers"][0]["clusters"][0]["agents"][1]["model"] = "other"
    for layer in tree["layers"]:
        for cluster in layer["clusters"]:
            for agent in cluster["agents"]:
                agent.setdefault("model", "fake")
    async with with_plain(agents, write_tree(tmp_path, layers=tree["layers"])) as (router, plain):
        for arm in ("tree", "splice", "exit"):
            plain.asked.clear()
            answer = await post(router, moa={"arm": arm})
            assert answer["choices"][0]["message"]["content"] == "fine words"
            told = by_name(answer)
            assert {name: told[name]["backend"] for name in ("p1", "p2", "final")} == {
                "p1": "pair",
                "p2": "plain",
                "final": "plain",
            }
            # Who asks for speculative prefill and gets none is told, there and where runs are shown.
            not_ahead = {name for name, agent in told.items() if "reason" in agent["speculation"]}
            assert not_ahead == (set() if arm == "tree" else {"final"})
            run_id = answer["moa"]["run"]
            kept = (await router.http.get(f"/runs/{run_id}")).json()["agents"][-1]["speculation"]
            assert kept == ({} if arm == "tree" else {"used": 0, "reason": "plain server"})
            page = (await router.http.get(f"/runs/{run_id}/timeline")).text
            assert ("Not prefilled ahead" in page) == (arm != "tree")
            assert (told["p2"]["prompt_tokens"], told["p2"]["completion_tokens"]) == (7, 2)
            read = last_message([c for c in agents.pair.decode.requests if Agents.name(c) == "agg1"][-1])
            assert "fine words" in read
            final = plain.asked[-1]
            assert final["messages"][-1]["content"].count("says agg") == 2
            assert final["max_tokens"] == 5
            if arm == "exit":
                assert told["p2"]["confidence"] == pytest.approx(0.9048, abs=1e-3)
        shown = (await router.http.get("/workers")).json()["workers"]
        assert [(each["role"], each["capability"]) for each in shown] == [
            ("prefill", "fallback"),
            ("decode", "fallback"),
            ("plain", "openai"),
        ]
        await router.settled()


@aio
async def test_requests_to_a_plain_server_are_passed_on(agents: Agents, tmp_path: Path) -> None:
    async with with_plain(agents, write_tree(tmp_path)) as (router, plain):
        body = {"model": "other", "messages": [{"role": "user", "content": "Hello."}], "stream": True}
        answer = await router.post("/v1/chat/completions", body)
        assert answer.status_code == 200
        assert "fine " in answer.text
        assert answer.text.rstrip().endswith("data: [DONE]")
        assert plain.asked == [body]
        assert (await router.post("/v1/completions", {"model": "other", "prompt": "x"})).status_code == 404
        await router.settled()


# ---- limits, and what is kept


@aio
async def test_a_client_has_so_many_runs(agents: Agents, tmp_path: Path) -> None:
    """Without a key it is known by its address, whatever it says of itself."""
    agents.answer["final"] = streams_then_hangs
    elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
    async with (
        serving(agents.pair, trees=write_tree(tmp_path), runs=RunSettings(total=3, per_client=1)) as router,
        httpx.AsyncClient(base_url=router.url, transport=elsewhere, timeout=60) as another,
    ):
        first = asyncio.create_task(router.post("/v1/chat/completions", CHAT))
        await until(lambda: "final" in agents.running, "the first runs")
        for headers in ({}, {"authorization": "Bearer made-up"}, {"x-moa-client": "made-up"}):
            second = await router.http.post("/v1/chat/completions", json=CHAT, headers=headers)
            assert second.status_code == 429
            assert "you have 1 runs under way of 1" in second.json()["error"]["message"]
        other = asyncio.create_task(another.post("/v1/chat/completions", json=CHAT))
        await until(lambda: agents.asked.count("final") == 2, "another client's runs")
        for task in (first, other):
            task.cancel()
        await asyncio.gather(first, other, return_exceptions=True)
        await router.freed()
        del agents.answer["final"]
        assert (await router.post("/v1/chat/completions", CHAT)).status_code == 200


def test_old_runs_give_way() -> None:
    store = RunStore(max_runs=2)
    traces = [RunTrace("t", "tree", "declared", f"run-{i}") for i in range(4)]
    for trace in traces[:2]:
        store.add(trace)
    traces[1].end("done")
    for trace in traces[2:]:
        store.add(trace)
        trace.end("done")
    kept = {each["run"] for each in store.summaries()}
    assert kept == {traces[0].id, traces[2].id, traces[3].id} - ({traces[2].id} if len(kept) == 2 else set())
    assert traces[0].id in kept, "a run that goes on is kept"


def test_traces_are_bounded_in_bytes() -> None:
    store = RunStore(max_runs=100, max_bytes=100_000)
    for index in range(50):
        trace = RunTrace("t", "tree", "declared", f"run-{index}", question="q" * (8 << 20))
        trace.agents = [AgentTrace("a", "c", 0, "m", text="x" * 20_000)]
        store.add(trace)
        if index:
            trace.end("failed")
        assert store.size <= 100_000 + trace.size
    kept = [each["run"] for each in store.summaries()]
    assert kept[0] == "run-49"
    assert kept[-1] == "run-0", "what still runs is kept"
    assert len(kept) < 6
    assert store.find("run-49").question == "q" * 4096 + " ... (8388608 characters)"


@aio
async def test_refused_questions_of_128_kib_keep_nothing(agents: Agents, tmp_path: Path) -> None:
    for name in ("p1", "p2", "p3"):
        agents.answer[name] = refuses
    long = {**CHAT, "messages": [{"role": "user", "content": "why " * (1 << 15)}]}
    async with serving(agents.pair, trees=write_tree(tmp_path, retries=0), max_body=16 << 20) as router:
        for _ in range(5):
            assert (await router.post("/v1/chat/completions", long)).status_code >= 400
        await until(lambda: router.limits.bodies.bytes_in_use == 0, "what has been answered holds nothing")
        runs = (await router.http.get("/runs")).json()["runs"]
        assert len(runs) == 5
        for each in runs:
            assert len((await router.http.get(f"/runs/{each['run']}")).content) < 20_000


@aio
async def test_patience_with_a_silent_stream() -> None:
    async def pieces() -> Any:
        for number in range(3):
            await asyncio.sleep(0.05)
            yield number
        await asyncio.sleep(60)

    stream = pieces()
    with IdleTimeout(0.6) as patience:
        assert [await patience.next(stream) for _ in range(3)] == [0, 1, 2]
        await asyncio.sleep(0.7)  # a slow reader is no silent server
        with pytest.raises(TimeoutError):
            await patience.next(stream)
    assert asyncio.current_task() is not None
    assert not asyncio.current_task().cancelling()  # type: ignore[union-attr]
