"""`moa.sampling` of a request: sampling parameters by agent; and exits that were decided beforehand."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.router.moa.test_tree_runs import CHAT, Agents, small_tree
from tests.router.support.aio import aio
from tests.router.support.fakes import Call
from tests.router.support.serving import serving


@aio
async def test_each_agent_gets_its_own_over_all_others(agents: Agents, trees: Path) -> None:
    asked = {
        "p1": {"max_tokens": 123, "ignore_eos": True},
        "p2": {"temperature": 0.9},
        "final": {"max_completion_tokens": 7},
        "final#2": {"max_tokens": 8},
    }
    async with serving(agents.pair, trees=trees) as router:
        body = {**CHAT, "n": 2, "max_tokens": 99, "moa": {"sampling": asked}}
        assert (await router.post("/v1/chat/completions", body)).status_code == 200
        p1, p2, p3 = (agents.call_of(name).json["sampling_params"] for name in ("p1", "p2", "p3"))
        assert (p1["max_new_tokens"], p1["ignore_eos"], p1["temperature"]) == (123, True, 0.1)
        assert (p2["max_new_tokens"], p2["temperature"]) == (5, 0.9)
        assert (p3["max_new_tokens"], p3["temperature"]) == (5, 0.1)
        finals = [call.json["sampling_params"] for call in agents.pair.decode.requests if agents.name(call) == "final"]
        assert sorted(final["max_new_tokens"] for final in finals) == [7, 8]


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        ([1], "must be an object"),
        ({"p1": 3}, "must be an object"),
        ({"nobody": {}}, "no agent of the tree 'moa'"),
        ({"final#2": {}}, "no agent of the tree 'moa'"),
        ({"p1": {"model": "m"}}, "'model', which is no sampling parameter"),
        ({"p1": {"max_tokens": 0}}, "`max_tokens` must be an integer from 1 up"),
    ],
)
@aio
async def test_what_is_wrong_is_said(agents: Agents, trees: Path, sampling: Any, words: str) -> None:
    async with serving(agents.pair, trees=trees) as router:
        answer = await router.post("/v1/chat/completions", {**CHAT, "moa": {"sampling": sampling}})
        assert answer.status_code == 400
        assert words in answer.json()["error"]["message"]
        assert agents.asked == []


@aio
async def test_too_many_answers_are_refused_before_their_names_are_made(agents: Agents, trees: Path) -> None:
    async with serving(agents.pair, trees=trees) as router:
        answer = await router.post("/v1/chat/completions", {**CHAT, "n": 10**15, "moa": {"sampling": {"p1": {}}}})
        assert answer.status_code == 400
        assert agents.asked == []


def write(trees: Path, tree: dict[str, Any]) -> None:
    trees.write_text(json.dumps(tree))


@aio
async def test_a_cluster_exits_as_given_beforehand(agents: Agents, trees: Path) -> None:
    """The reader of a cluster of three, one of which never ends, goes on after two answers because `exits` says so."""

    async def never(call: Call) -> None:
        await call.gone()

    agents.answer["c"] = never
    tree = small_tree()
    tree["trees"][0]["layers"][0]["clusters"][1]["agents"] += [{"name": name, "role": name} for name in ("b", "c")]
    write(trees, tree)
    async with serving(agents.pair, trees=trees) as router:
        exits = {"rule": "replay", "exits": {"c2": 2}}
        answer = (await router.post("/v1/chat/completions", {**CHAT, "moa": {"arm": "exit", "exit": exits}})).json()
        states = {each["agent"]: each["state"] for each in answer["moa"]["agents"]}
        assert {name for name, state in states.items() if state != "done"} == {"c"}
        decisions = answer["moa"]["decisions"]
        assert [(each["cluster"], each["exit"], each["by"]) for each in decisions] == [("c2", True, "replay")]
