"""Roles by size in place of models' names."""

import json
from pathlib import Path
from typing import Any

import pytest

from router.errors import BadRequest
from router.moa.model_roles import assign_roles, by_size, is_role
from router.moa.tree_files import load_trees, read_trees
from tests.router.moa.test_tree_runs import CHAT, Agents, small_tree
from tests.router.support.aio import aio
from tests.router.support.serving import serving

SIZES = {"s": 4.0, "m": 8.0, "l": 32.0}


def models_of(served: dict[str, float]) -> dict[str, Any]:
    tree = load_trees(Path("tree-9-3-1")).trees[0]
    return {agent.name: agent.model for _, _, agent in assign_roles(tree, list(served), served).agents()}


def test_agents_get_the_models_of_their_roles() -> None:
    models = models_of(SIZES)
    assert [models[f"proposer-2{k}"] for k in (1, 2, 3)] == ["s", "m", "l"]
    assert {models[f"aggregator-{k}"] for k in (1, 2, 3)} == {"m"}
    assert models["final"] == "l"


def test_a_rank_behind_the_last_is_the_smallest() -> None:
    assert set(models_of({"one": 1.0}).values()) == {"one"}
    models = models_of({"s": 4.0, "l": 32.0})
    assert (models["aggregator-1"], models["final"]) == ("s", "l")


def test_equal_sizes_keep_the_files_order_and_models_without_a_size_have_no_rank() -> None:
    assert by_size(["b", "a", "other"], {"a": 1.0, "b": 1.0, "away": 5.0}) == ["a", "b"]


@pytest.mark.parametrize(("word", "role"), [("largest", True), ("rank:2", True), ("rank:0", False), ("rank:2b", False)])
def test_what_is_a_role(word: str, role: bool) -> None:
    assert is_role(word) == role


def test_roles_need_sizes() -> None:
    tree = small_tree(model="largest")
    with pytest.raises(BadRequest, match="sizes of models, which are not given"):
        read_trees(tree, "t")
    with pytest.raises(BadRequest, match="'smallest', which is a role"):
        read_trees({**tree, "sizes": {"smallest": 1}}, "t")


@aio
async def test_a_router_alone_runs_a_tree_of_roles(agents: Agents, tmp_path: Path) -> None:
    trees = tmp_path / "trees.json"
    trees.write_text(json.dumps({**small_tree(model="largest"), "sizes": {"fake": 7e9, "absent": 1e9}}))
    async with serving(agents.pair, trees=trees) as router:
        answer = await router.post("/v1/chat/completions", CHAT)
        assert [each["model"] for each in answer.json()["moa"]["agents"]] == ["fake"] * 6
        assert "moa" in (await router.http.get("/v1/models")).text


@aio
async def test_no_served_model_has_a_size(agents: Agents, tmp_path: Path) -> None:
    trees = tmp_path / "trees.json"
    trees.write_text(json.dumps({**small_tree(model="largest"), "sizes": {"absent": 1e9}}))
    async with serving(agents.pair, trees=trees) as router:
        answer = await router.post("/v1/chat/completions", CHAT)
        assert answer.status_code == 503
        assert "no served model has a size" in answer.text
