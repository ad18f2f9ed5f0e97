"""The four arms on the real pair: the same question, what each saves, and what can be seen of a run."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.servers import TIMEOUT, Servers, is_quiet, post, wait_for

QUESTION = [{"role": "user", "content": "What is the capital of Italy, and why is it famous?"}]
AT_ONCE = {"rule": "q_threshold", "q_min": 0.0}  # exits as soon as two have answered


def play(servers: Servers, arm: str, **options: Any) -> dict[str, Any]:
    """One run; its trace."""
    body = {"model": "small", "messages": QUESTION, "moa": {"arm": arm, **options}}
    answer = post(f"{servers.router}/v1/chat/completions", body)
    assert answer.status_code == 200, answer.text
    trace: dict[str, Any] = answer.json()["moa"]
    return trace


@pytest.fixture(scope="module", autouse=True)
def arms(servers: Servers) -> dict[str, dict[str, Any]]:
    """All four, before the tests below teach the router which segments are worth sending."""
    found = {arm: play(servers, arm) for arm in ("dense", "tree")}
    found["splice"] = play_spliced(servers, found["tree"])
    found["exit"] = play_judged(servers, stragglers_aborted, exit=AT_ONCE)
    return found


def play_spliced(servers: Servers, tree: dict[str, Any]) -> dict[str, Any]:
    """A run with segments, after others if need be: what other modules taught the router is forgotten in a minute."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        trace = play(servers, "splice")
        if critical(trace) < 0.5 * critical(tree) or time.monotonic() > deadline:
            return trace
        time.sleep(5)  # its costs are forgotten a minute after the last segment, which may be another module's


def critical(trace: dict[str, Any]) -> int:
    """Tokens prefilled between an upstream's last token and the reader's first."""
    return sum(by_name(trace)[name]["speculation"]["tail"] for name in ("m1", "m2", "final"))


def play_judged(servers: Servers, seen: Callable[[dict[str, Any]], bool], **options: Any) -> dict[str, Any]:
    """A run in which the judge speaks in time, after others if need be.

    It has no say while it loads its model, and on a busy machine a short run may be over before it has.
    """
    deadline = time.monotonic() + TIMEOUT
    while True:
        trace = play(servers, "exit", **options)
        if seen(trace) or time.monotonic() > deadline:
            return trace


def judged(trace: dict[str, Any]) -> bool:
    decisions = trace["decisions"]
    return bool(decisions) and not any(decision["problem"] for decision in decisions)


def stragglers_aborted(trace: dict[str, Any]) -> bool:
    agents = by_name(trace)
    return judged(trace) and {agents[name]["state"] for name in ("p13", "p23")} == {"aborted"}


def by_name(trace: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {agent["agent"]: agent for agent in trace["agents"]}


def test_tree_and_splice_say_the_same(arms: dict[str, dict[str, Any]]) -> None:
    said = [{name: agent["text"] for name, agent in by_name(arms[arm]).items()} for arm in ("tree", "splice")]
    assert said[0] == said[1]
    assert all(said[0].values())


def test_dense_agents_read_the_whole_layer(arms: dict[str, dict[str, Any]]) -> None:
    dense, tree = by_name(arms["dense"]), by_name(arms["tree"])
    assert dense["m1"]["reads"] == ["c1", "c2"]
    assert tree["m1"]["reads"] == ["c1"]
    assert dense["m1"]["prompt_tokens"] > tree["m1"]["prompt_tokens"] + 60


def test_splicing_leaves_little_to_prefill(arms: dict[str, dict[str, Any]]) -> None:
    tree = by_name(arms["tree"])
    assert critical(arms["tree"]) == sum(tree[name]["prompt_tokens"] for name in ("m1", "m2", "final"))
    assert critical(arms["splice"]) < 0.5 * critical(arms["tree"])


def test_an_early_exit_decodes_less(arms: dict[str, dict[str, Any]], servers: Servers) -> None:
    trace = arms["exit"]
    agents = by_name(trace)
    first = {decision["cluster"]: decision for decision in trace["decisions"] if decision["exit"]}
    assert {"c1", "c2"} <= first.keys()
    for cluster in ("c1", "c2"):
        decision = first[cluster]
        assert len(decision["answers"]) == 2
        assert all(0 < confidence <= 1 for confidence in decision["confidences"])
        assert 0 < decision["C"] <= 1
        assert -1 <= decision["P"] <= 1
        assert 0 <= decision["B"] <= 1
        assert decision["Q"] == pytest.approx(decision["C"] ** 0.5 * decision["B"] ** 0.5, rel=1e-4)
        stragglers = [agent for agent in trace["agents"] if agent["cluster"] == cluster and agent["state"] != "done"]
        assert [(each["agent"], each["state"]) for each in stragglers] == [(f"p{cluster[1]}3", "aborted")]
        assert stragglers[0]["completion_tokens"] < 48
    assert agents["final"]["state"] == "done"
    spent = {arm: trace["usage"]["completion_tokens"] for arm, trace in arms.items()}
    assert spent["exit"] < spent["splice"] == spent["tree"]
    assert wait_for(lambda: is_quiet(servers.prefill) and is_quiet(servers.decode))


def test_a_seed_draws_the_same(servers: Servers) -> None:
    drawn = []
    for _ in range(2):
        decisions = play_judged(servers, judged, seed=5)["decisions"]
        drawn.append({(each["cluster"], len(each["answers"])): each["u"] for each in decisions})
    both = drawn[0].keys() & drawn[1].keys()  # when the judge is asked depends on time
    assert both
    assert all(drawn[0][at] == drawn[1][at] is not None for at in both)


def test_a_run_can_be_looked_at(arms: dict[str, dict[str, Any]], servers: Servers) -> None:
    run = f"{servers.router}/runs/{arms['exit']['run']}"
    assert httpx.get(run, timeout=TIMEOUT).json() == arms["exit"]
    page = httpx.get(f"{run}/timeline", timeout=TIMEOUT)
    assert page.headers["content-type"].startswith("text/html")
    assert "aborted" in page.text
    trace = httpx.get(f"{run}/chrome-trace", timeout=TIMEOUT).json()
    assert {"m1", "p13"} <= {str(event.get("args", {}).get("name")).split(" / ")[-1] for event in trace["traceEvents"]}
    missing = httpx.get(f"{servers.router}/runs/nobody", timeout=TIMEOUT)
    assert missing.status_code == 404
    listed = httpx.get(f"{servers.router}/runs", timeout=TIMEOUT).json()["runs"]
    assert arms["exit"]["run"] in {each["run"] for each in listed}


def test_completions_several_prompts_and_several_answers(servers: Servers) -> None:
    client = openai.OpenAI(base_url=f"{servers.router}/v1", api_key="unused")
    whole = client.completions.create(model="tiny", prompt=["Name a river.", "Name a city."], n=2, max_tokens=6)
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    assert all(choice.text for choice in whole.choices)
    pieces = [
        piece
        for piece in client.completions.create(model="tiny", prompt="Name a river.", n=2, max_tokens=6, stream=True)
        if piece.choices
    ]
    for index in (0, 1):
        streamed = "".join(piece.choices[0].text for piece in pieces if piece.choices[0].index == index)
        assert streamed == whole.choices[index].text
