"""What the critical path of a run consists of, by hand."""

from typing import Any

import pytest

from launch.experiment.composition import PARTS, composition, layer_composition, waiting_for_upstream
from router.timeline.record import read_run


def agent(
    name: str, cluster: str, layer: int, began: float, start: float, first: float, end: float, **more: Any
) -> Any:
    told = {"agent": name, "cluster": cluster, "layer": layer, "model": "m", "began": began, "start": start}
    return {**told, "first_token": first, "end": end, **more}


def run(*agents: Any, seconds: float, decisions: Any = ()) -> Any:
    return read_run(
        {"run": "r", "tree": "t", "arm": "tree", "seconds": seconds, "agents": agents, "decisions": list(decisions)}
    )


SLOW = agent("slow", "c", 0, 0.1, 0.2, 0.5, 2.0)
FAST = agent("fast", "c", 0, 0.1, 0.2, 0.5, 1.0)


def test_the_path_goes_through_the_slowest_and_its_parts_sum_to_the_latency() -> None:
    final = agent("final", "end", 1, 0.1, 2.3, 2.9, 4.0, reads=["c"])
    parts = composition(run(FAST, SLOW, final, seconds=4.1), latency=4.25)
    told = {"waiting": 0.1, "tokenize": 0.1 + 0.3, "prefill": 0.3 + 0.6, "decode": 1.5 + 1.1, "router": 0.25}
    assert parts == pytest.approx({**dict.fromkeys(PARTS, 0.0), **told})
    assert sum(parts.values()) == pytest.approx(4.25)
    assert waiting_for_upstream(run(FAST, SLOW, final, seconds=4.1)) == pytest.approx(2.2)


def test_a_reader_of_an_exited_cluster_waits_for_the_judge_and_not_for_the_straggler() -> None:
    straggler = {**SLOW, "state": "aborted", "end": 1.2}
    final = agent("final", "end", 1, 0.0, 1.3, 1.5, 2.0, reads=["c"])
    decision = {"cluster": "c", "at": 1.2, "seconds": 0.2, "exit": True}
    parts = composition(run(FAST, straggler, final, seconds=2.0, decisions=[decision]), latency=2.0)
    assert parts["judge"] == pytest.approx(0.2)
    assert parts["tokenize"] == pytest.approx(0.1 + 0.1)
    assert parts["decode"] == pytest.approx(0.5 + 0.5)
    assert sum(parts.values()) == pytest.approx(2.0)


def test_a_segment_under_way_when_the_last_answer_comes_is_prefill() -> None:
    final = agent("final", "end", 1, 0.0, 2.4, 2.5, 3.0, reads=["c"], segments=[(1.5, 2.25, 100)])
    parts = composition(run(SLOW, final, seconds=3.0), latency=3.0)
    assert parts["prefill"] == pytest.approx(0.3 + 0.25 + 0.1)
    assert parts["tokenize"] == pytest.approx(0.1 + 0.15)


def test_servers_that_tell_split_the_time_to_the_first_token() -> None:
    told = {"handshake": 0.01, "queue": 0.05, "prefill": 0.10, "transfer": 0.02}
    alone = agent("final", "end", 0, 0.0, 0.1, 0.3, 1.0, server_seconds=told)
    parts = composition(run(alone, seconds=1.0), latency=1.0)
    assert {part: parts[part] for part in told} == pytest.approx(told)
    assert parts["tokenize"] == pytest.approx(0.1 + 0.2 - 0.18)
    assert sum(parts.values()) == pytest.approx(1.0)


def test_what_servers_tell_is_never_more_than_what_the_router_saw() -> None:
    told = {"queue": 0.3, "prefill": 0.1, "transfer": 0.0}
    alone = agent("final", "end", 0, 0.0, 0.0, 0.2, 1.0, server_seconds=told)
    parts = composition(run(alone, seconds=1.0), latency=1.0)
    assert [parts["queue"], parts["prefill"]] == pytest.approx([0.15, 0.05])
    assert sum(parts.values()) == pytest.approx(1.0)


def test_a_layer_alone_is_its_slowest_agent_from_the_end_of_what_it_reads() -> None:
    other = {**SLOW, "agent": "other", "cluster": "d", "end": 1.0}
    early = agent("early", "mid", 1, 0.0, 1.1, 1.2, 2.5, reads=["d"])  # 1.5 s after 1.0
    late = agent("late", "mid", 1, 0.0, 2.1, 2.2, 3.0, reads=["c"])  # 1.0 s after 2.0, though it ends later
    final = agent("final", "end", 2, 0.0, 3.0, 3.1, 4.0, reads=["mid"])
    parts = layer_composition(run(SLOW, other, early, late, final, seconds=4.0), 1)
    assert parts == pytest.approx({**dict.fromkeys(PARTS, 0.0), "tokenize": 0.1, "prefill": 0.1, "decode": 1.3})
    assert sum(layer_composition(run(SLOW, seconds=2.0), 1).values()) == 0
