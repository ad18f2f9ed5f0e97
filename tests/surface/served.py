"""The part of the public surface that a running router shows: paths, bodies, keys of answers, labels of metrics."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from prometheus_client import CollectorRegistry

from router.service_discovery.metrics import DiscoveryMetrics
from tests.router.moa.test_run_failures import FakeJudge
from tests.router.moa.test_tree_runs import CHAT, Agents, small_tree
from tests.router.support.fakes import FakePair
from tests.router.support.serving import serving

PLAIN = {"model": "plain", "messages": [{"role": "user", "content": "hi"}], "stream": True}


async def served_surface(folder: Path) -> dict[str, Any]:
    """What a router over two fake pairs answers (fakes: only the router is looked at)."""
    trees = folder / "trees.json"
    tree = small_tree()
    tree["trees"][0]["arm"] = "exit"
    for layer in tree["trees"][0]["layers"]:
        for agent in (agent for cluster in layer["clusters"] for agent in cluster["agents"]):
            agent["model"] = "fake"
    trees.write_text(json.dumps(tree))
    with _collectors() as collectors:
        DiscoveryMetrics(CollectorRegistry(), (1.0,))
        served = await _served(trees)
    return {**served, "metrics": _families(collectors)}


async def _served(trees: Path) -> dict[str, Any]:
    async with serving(Agents().pair, FakePair("plain"), trees=trees, judge=FakeJudge()) as router:
        answer = await router.post("/v1/chat/completions", CHAT)
        assert answer.status_code == 200, answer.text
        run = answer.json()
        plain = await router.post("/v1/chat/completions", PLAIN)
        assert plain.status_code == 200, plain.text
        gets = ("/workers", "/get_server_info", "/v1/models", "/health", "/readiness", "/runs")
        answers = {path: (await router.http.get(path)).json() for path in gets}
        return {
            "openapi": _without_words((await router.http.get("/openapi.json")).json()),
            "answer of a tree": _keys(run),
            **{f"answer of {path}": _keys(told) for path, told in answers.items()},
            "headers of an answer": sorted(plain.headers.keys() - {"date", "transfer-encoding"}),
        }


def _without_words(value: Any) -> Any:
    """The document without what only explains it."""
    if isinstance(value, dict):
        return {key: _without_words(each) for key, each in value.items() if key not in ("summary", "description")}
    return [_without_words(each) for each in value] if isinstance(value, list) else value


def _keys(value: Any) -> Any:
    """The keys of an answer, and the types of what is no object; of a list its first item's."""
    if isinstance(value, dict):
        return {key: _keys(each) for key, each in sorted(value.items())}
    if isinstance(value, list):
        return [_keys(value[0])] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


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
