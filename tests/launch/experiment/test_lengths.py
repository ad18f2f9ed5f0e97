"""Frozen lengths: as their seed makes them, the same for an agent in every arm, as many as a tree needs."""

import statistics
from pathlib import Path

import pytest

from launch.errors import ConfigError
from launch.experiment.lengths import FOLDER, PLACES, QUESTIONS, SHIPPED, load_lengths, sampling_for, trace_bytes
from router.config.structs import read_struct
from router.moa.tree import Tree
from router.moa.tree_files import load_trees
from tests.launch.experiment.support import ALONE, TREE


@pytest.mark.parametrize("name", SHIPPED)
def test_the_files_are_what_their_seed_makes(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_bytes() == trace_bytes(SHIPPED[name])
    trace = load_lengths(name, Path())
    every = [length for question in trace.questions for place in PLACES for length in question[place]]
    assert len(trace.questions) == QUESTIONS
    assert statistics.median(every) == pytest.approx(SHIPPED[name].median, rel=0.1)
    assert 1 <= min(every) <= max(every) <= SHIPPED[name].cap


def test_an_agents_length_is_that_of_its_place_whatever_the_tree() -> None:
    trace = load_lengths("chat", Path())
    dense, tree = (load_trees(Path(name)).trees[0] for name in ("dense-9-9-1", "tree-9-3-1"))
    for index in (0, 5, QUESTIONS + 5):
        in_dense, in_tree = trace.lengths(index, dense), trace.lengths(index, tree)
        shared = [name for name in in_tree if name.startswith(("proposer", "final"))]
        assert len(shared) == 10
        assert all(in_dense[name] == in_tree[name] for name in shared)
    assert trace.lengths(5, dense) == trace.lengths(QUESTIONS + 5, dense)


def test_each_final_answer_has_its_own_and_the_scale_counts() -> None:
    alone = read_struct(Tree, ALONE)
    lengths = load_lengths("chat", Path()).lengths(0, alone, answers=3)
    assert list(lengths) == ["final", "final#2", "final#3"]
    assert len(set(lengths.values())) == 3
    scaled = load_lengths("chat", Path(), 0.01).lengths(0, alone, answers=3)
    assert scaled == {name: max(1, round(length * 0.01)) for name, length in lengths.items()}
    assert sampling_for({"final": 9}) == {"final": {"max_tokens": 9, "ignore_eos": True}}


def test_a_tree_with_more_agents_and_a_wrong_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    file.write_text('{"questions": [{"first": [1, 2], "middle": [1], "final": [1]}]}')
    with pytest.raises(ConfigError, match="more agents than the trace"):
        load_lengths("own.json", tmp_path).lengths(0, read_struct(Tree, TREE))
    file.write_text('{"questions": []}')
    with pytest.raises(ConfigError, match="has no lengths"):
        load_lengths("own.json", tmp_path)
    with pytest.raises(ConfigError, match="shipped: chat, reasoning"):
        load_lengths("other", tmp_path)


def test_a_second_layer_reads_up_to_2048_tokens_and_writes_what_is_asked_for() -> None:
    trace = load_lengths("second-layer:256", Path())
    reads = [length for question in trace.questions for length in question["first"]]
    assert 1 <= min(reads) <= 20
    assert 2028 <= max(reads) <= 2048
    assert statistics.mean(reads) == pytest.approx(1024.5, rel=0.05)
    assert {length for question in trace.questions for length in question["middle"]} == {256}
    assert load_lengths("second-layer:100", Path(), 0.5).questions[0]["middle"][0] == 50
    with pytest.raises(ConfigError, match="cannot be read"):
        load_lengths("second-layer:0", Path())
