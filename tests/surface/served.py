"""The part of the public surface that a running router shows: paths, bodies, keys of answers, labels of metrics."""

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from prometheus_client import CollectorRegistry

from router.server.processes.shared_choices import SharedChoices
from router.server.processes.shared_choices_metrics import SharedChoicesMetrics
from router.service_discovery.metrics import DiscoveryMetrics
from router.workers.registry import Registry
from tests.router.moa.test_run_failures import FakeJudge
from tests.router.moa.test_tree_runs import CHAT, Agents, hangs, small_tree
from tests.router.support.fakes import FakePair
from tests.router.support.serving import serving
from tests.surface.static import without_words

PLAIN = {"model": "plain", "messages": [{"role": "user", "content": "hi"}], "stream": True}


async def served_surface(folder: Path) -> dict[str, Any]:
    """What a router over two fake pairs answers (fakes: only the router is looked at)."""
    trees = folder / "trees.json"
    tree = small_tree()
    tree["trees"][0]["arm"] = "exit"
    straggler = {"name": "p4", "role": "p4", "reads": [], "max_tokens": 5}
    tree["trees"][0]["layers"][0]["clusters"][0]["agents"].append(straggler)
    for layer in tree["trees"][0]["layers"]:
        for agent in (agent for cluster in layer["clusters"] for agent in cluster["agents"]):
            agent["model"] = "fake"
    trees.write_text(json.dumps(tree))
    with _collectors() as collectors:
        DiscoveryMetrics(CollectorRegistry(), (1.0,))
        CollectorRegistry().register(SharedChoicesMetrics(SharedChoices(0, [folder / "0"], Registry([]), {})))
        served = await _served(trees)
    return {**served, "metrics": _families(collectors)}


async def _served(trees: Path) -> dict[str, Any]:
    agents = Agents()
    agents.answer["p4"] = hangs
    async with serving(agents.pair, FakePair("plain"), trees=trees, judge=FakeJudge()) as router:
        answer = await router.post("/v1/chat/completions", CHAT)
        assert answer.status_code == 200, answer.text
        run = answer.json()
        streamed = await router.post("/v1/chat/completions", {**CHAT, "stream": True})
        events = [line.removeprefix("data: ") for line in streamed.text.splitlines() if line.startswith("data: ")]
        refused = await router.post("/v1/chat/completions", {**CHAT, "model": "none"})
        plain = await router.post("/v1/chat/completions", PLAIN)
        assert plain.status_code == 200, plain.text
        gets = ("/workers", "/get_server_info", "/v1/models", "/health", "/readiness", "/runs")
        answers = {path: (await router.http.get(path)).json() for path in gets}
        return {
            "openapi": without_words((await router.http.get("/openapi.json")).json()),
            "answer of a tree": _keys(run),
            "events of a tree's stream": _keys([json.loads(event) for event in events if event != "[DONE]"]),
            "answer that refuses": _keys(refused.json()),
            "answer of /runs/{id}": _keys((await router.http.get(f"/runs/{run['moa']['run']}")).json()),
            **{f"answer of {path}": _keys(told) for path, told in answers.items()},
            "headers of an answer": sorted(plain.headers.keys() - {"date", "transfer-encoding"}),
        }


def _keys(value: Any) -> Any:
    """The keys of an answer, and the types of what is no object; of a list those of all its items."""
    if isinstance(value, dict):
        return {key: _keys(each) for key, each in sorted(value.items())}
    if isinstance(value, list):
        return [functools.reduce(_both, map(_keys, value))] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def _both(one: Any, other: Any) -> Any:
    """What two items of a list have, together: types that differ stand beside each other."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {
            key: _both(one.get(key, other.get(key)), other.get(key, one.get(key)))
            for key in sorted(one.keys() | other.keys())
        }
    if isinstance(one, list) and isinstance(other, list):
        return [functools.reduce(_both, (*one, *other))] if one or other else []
    return one if one == other else " or ".join(sorted({*str(one).split(" or "), *str(other).split(" or ")}))


@contextmanager
def _collectors() -> Iterator[list[Any]]:
    """Everything that is registered for Prometheus while the block lasts."""
    found: list[Any] = []
    register = CollectorRegistry.register

    def recorded(registry: CollectorRegistry, collector: Any) -> None:
        found.append(collector)
        register(registry, collector)

    with mock.patch.object(CollectorRegistry, "register", recorded):
        yield found


def _families(collectors: list[Any]) -> dict[str, list[str]]:
    """Of each metric its type and its labels, also where it has no samples yet."""
    found = {}
    for collector in collectors:
        if hasattr(collector, "_labelnames"):
            found[collector._name] = [collector._type, *collector._labelnames]
        else:
            for family in collector.collect():
                found[family.name] = [family.type, *family._labelnames]
    return dict(sorted(found.items()))
