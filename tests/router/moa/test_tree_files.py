"""Trees and the checks of their files."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins

from router.errors import BadRequest
from router.moa.tree_files import load_trees, read_trees


def valid() -> dict[str, Any]:
    """Two proposers in two clusters, and a final agent that reads both."""
    return {
        "models": {"m": {"temperature": 0}},
        "trees": [
            {
                "name": "moa",
                "layers": [
                    {
                        "clusters": [
                            {"name": "c1", "agents": [{"name": "a1", "role": "Be brief.", "max_tokens": 8}]},
                            {"name": "c2", "agents": [{"name": "a2", "model": "m"}]},
                        ]
                    },
                    {"clusters": [{"name": "end", "agents": [{"name": "final", "reads": ["c1", "c2"]}]}]},
                ],
            }
        ],
    }


def test_a_valid_file(tmp_path: Path) -> None:
    for name, text in (("t.json", json.dumps(valid())), ("t.yaml", json.dumps(valid()))):
        (tmp_path / name).write_text(text)
        trees = load_trees(tmp_path / name)
        tree = trees.trees[0]
        assert trees.models == {"m": {"temperature": 0}}
        assert [(number, cluster.name, agent.name) for number, cluster, agent in tree.agents()] == [
            (0, "c1", "a1"),
            (0, "c2", "a2"),
            (1, "end", "final"),
        ]
        assert (tree.final.reads, tree.final.max_tokens) == (("c1", "c2"), 256)


def test_the_default_tree_is_3x3_3_1() -> None:
    (tree,) = load_trees(None).trees
    assert tree.name == "moa"
    assert [[len(cluster.agents) for cluster in layer.clusters] for layer in tree.layers] == [[3, 3, 3], [3], [1]]
    assert [agent.reads for agent in tree.layers[1].clusters[0].agents] == [(f"proposers-{c}",) for c in (1, 2, 3)]
    assert tree.final.reads == ("aggregators",)
    assert len({agent.name for _, _, agent in tree.agents()}) == 13
    assert read_trees({"trees": [to_builtins(tree)]}, "itself").trees == (tree,)


TREE = ("trees", 0)
LAYERS = (*TREE, "layers")
C1 = (*LAYERS, 0, "clusters", 0)
A1 = (*C1, "agents", 0)
END = (*LAYERS, 1, "clusters", 0)
FINAL = (*END, "agents", 0)


@pytest.mark.parametrize(
    ("path", "value", "key", "words"),
    [
        ((), None, "the top", "expected `object`, got `null`"),
        ((), [], "the top", "expected `object`, got `array`"),
        ((), {}, "the top", "missing required field `trees`"),
        (("extra",), 1, "the top", "unknown field `extra`"),
        (("models",), [], "models", "expected `object`, got `array`"),
        (("models", "m"), 3, "models.*", "expected `object`, got `int`"),
        (("models", "m", "stream"), False, "the top", "models.m: 'stream' is no sampling parameter"),
        (("trees",), [], "trees", "length >= 1"),
        ((*TREE, "name"), "two words", "trees.0.name", "matching regex"),
        ((*TREE, "name"), "x" * 65, "trees.0.name", "length <= 64"),
        ((*TREE, "arm"), "fast", "trees.0.arm", "expected 'dense' or 'exit' or 'splice' or 'tree', got 'fast'"),
        ((*TREE, "arm"), "very fast", "trees.0.arm", "or 'tree', got 'very fast'"),
        ((*TREE, "arm"), "\ud800", "the top", "half of a surrogate pair"),
        ((*TREE, "a - at `$.b`"), 1, "trees.0", "unknown field `a - at `$.b``"),
        ((*TREE, "retries"), 1.5, "trees.0.retries", "expected `int`, got `float`"),
        ((*TREE, "retries"), True, "trees.0.retries", "expected `int`, got `bool`"),
        ((*TREE, "exit"), {"rule": 3}, "trees.0.exit.rule", "expected `str`, got `int`"),
        ((*TREE, "timeout"), float("inf"), "trees.0", "`timeout` must be a finite number"),
        (LAYERS, [], "trees.0.layers", "length >= 1"),
        ((*LAYERS, 0, "clusters"), [], "trees.0.layers.0.clusters", "length >= 1"),
        ((*LAYERS, 0, "cluster"), 1, "trees.0.layers.0", "unknown field `cluster`"),
        ((*C1, "agents"), [], "trees.0.layers.0.clusters.0.agents", "length >= 1"),
        ((*C1, "name"), "c2", "trees.0", "two clusters are called 'c2'"),
        ((*A1, "name"), "a2", "trees.0", "two agents are called 'a2'"),
        ((*A1, "name"), "", "trees.0.layers.0.clusters.0.agents.0.name", "matching regex"),
        ((*A1, "max_tokens"), 0, "trees.0.layers.0.clusters.0.agents.0.max_tokens", "expected `int` >= 1"),
        ((*A1, "max_tokens"), "many", "trees.0.layers.0.clusters.0.agents.0.max_tokens", "expected `int`, got `str`"),
        ((*A1, "sampling"), 1, "trees.0.layers.0.clusters.0.agents.0.sampling", "expected `object`"),
        ((*A1, "sampling"), {"messages": []}, "trees.0.layers.0.clusters.0.agents.0", "'messages' is no"),
        ((*A1, "sampling"), {"n": 2}, "trees.0.layers.0.clusters.0.agents.0", "'n' is no"),
        ((*A1, "modell"), "m", "trees.0.layers.0.clusters.0.agents.0", "unknown field `modell`"),
        ((*A1, "reads"), ["c2"], "trees.0", "agent 'a1' reads 'c2', which is not a cluster of an earlier layer"),
        ((*A1, "reads"), ["c1"], "trees.0", "none, it is in the first layer"),
        ((*FINAL, "reads"), [], "trees.0", "agent 'final' of a later layer reads nothing; give it `reads`"),
        ((*FINAL, "reads"), ["c1"], "trees.0", "nobody reads the cluster 'c2'"),
        ((*FINAL, "reads"), ["c1", "c2", "c3"], "trees.0", "reads 'c3'"),
        ((*FINAL, "reads"), ["c1", "c2", "c1"], "trees.0", "agent 'final' reads 'c1' twice"),
        ((*FINAL, "reads"), ["c1", "c2", "end"], "trees.0", "reads 'end'"),
        ((*END, "agents", 1), {"name": "b", "reads": ["c1"]}, "trees.0", "one cluster of one agent"),
        (("trees", 1), valid()["trees"][0], "the top", "two trees are called 'moa'"),
    ],
)
def test_every_mistake_is_one_sentence_that_names_the_key(
    path: tuple[str | int, ...], value: Any, key: str, words: str
) -> None:
    file: Any = valid()
    if path:
        at = file
        for step in path[:-1]:
            at = at[step]
        if isinstance(at, list) and path[-1] == len(at):
            at.append(value)
        else:
            at[path[-1]] = value
    else:
        file = value
    with pytest.raises(BadRequest) as refused:
        read_trees(file, "the trees file t.yaml")
    message = str(refused.value)
    assert message.startswith(f"the trees file t.yaml is wrong at {key}: ")
    assert words in message
    assert_one_sentence(message)


def test_numbers_may_be_written_as_text_or_whole_floats() -> None:
    """YAML reads 1e3 as text."""
    file: Any = valid()
    file["trees"][0] |= {"timeout": "1e3", "retries": 2.0, "exit": {"tau": "0.5", "m": 1.0}}
    tree = read_trees(file, "it").trees[0]
    assert (tree.timeout, tree.retries, tree.exit.tau, tree.exit.m) == (1000.0, 2, 0.5, 1)


def assert_one_sentence(message: str) -> None:
    assert "\n" not in message
    assert message.endswith(".")
    assert not message.endswith("..")
    assert ". " not in message.replace("t.yaml", "")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("t.json", "{", "is not valid ("),
        ("t.yaml", "a: [", "is not valid ("),
        ("t.yaml", "\x00", "is not valid ("),
        ("t.json", "[" * 100_000, "is not valid ("),
        ("t.yaml", "[" * 1200, "is not valid ("),
        ("t.yaml", "", "is wrong at the top"),
        ("t.json", "[]", "is wrong at the top"),
        ("t.json", '{"two\\nlines": 1, "trees": []}', "is wrong at the top: object contains unknown field"),
    ],
)
def test_files_that_are_no_trees(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadRequest) as refused:
        load_trees(tmp_path / name)
    assert str(tmp_path / name) in str(refused.value)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff\xfe")
    for path, words in (
        (tmp_path / "missing.yaml", "cannot be read (No such file or directory)"),
        (tmp_path, "cannot be read (Is a directory)"),
        (tmp_path / "latin.yaml", "is not valid ("),
    ):
        with pytest.raises(BadRequest) as refused:
            load_trees(path)
        assert words in str(refused.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place of a file that could be written wrong."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))][: 1 << 10]


@given(st.data(), json_values)
def test_any_value_anywhere_is_taken_or_refused_in_one_line(data: st.DataObject, value: Any) -> None:
    file = copy.deepcopy(valid())
    *path, last = data.draw(st.sampled_from([place for place in places(file) if place]))
    at: Any = file
    for step in path:
        at = at[step]
    at[last] = value
    message = ""
    try:
        read_trees(file, "it")
    except BadRequest as error:
        message = str(error)
    assert re.fullmatch(r"|it is wrong at .+", message)
