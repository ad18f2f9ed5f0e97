"""Phases of agents, and the chain that made the run as long as it was."""

from typing import Any

import pytest

from router.errors import BadRequest
from router.timeline.critical_path import critical_path
from router.timeline.record import read_run
from router.timeline.spans import Row, rows
from tests.router.timeline import traces
from tests.router.timeline.strategies import any_run


def row(state: str = "done", *, seconds: float = 20.0, run_state: str = "done", **more: Any) -> Row:
    one = traces.agent("a", "c", 0, state=state, **more)
    return rows(read_run(traces.run([one], seconds, state=run_state)))[0]


def phases(row: Row) -> list[tuple[str, float, float]]:
    return [(span.phase, span.start, span.end) for span in row.spans]


def test_a_finished_agent_waits_prefills_and_decodes() -> None:
    drawn = row(began=1, start=3, first_token=4, end=9, prompt_tokens=100, cached_tokens=30, completion_tokens=7)
    assert phases(drawn) == [("wait", 1, 3), ("prefill", 3, 4), ("decode", 4, 9)]
    assert [span.tokens for span in drawn.spans] == [None, 70, 7]
    assert (drawn.stopped, drawn.note) == (None, "")


def test_segments_lie_between_waits() -> None:
    drawn = row(began=0, start=8, first_token=9, end=12, segments=[[5, 6, 50], [1, 2, 30], [6, 8.5, 9]])
    assert phases(drawn) == [
        ("wait", 0, 1),
        ("speculative", 1, 2),
        ("wait", 2, 5),
        ("speculative", 5, 6),
        ("speculative", 6, 8),
        ("prefill", 8, 9),
        ("decode", 9, 12),
    ]
    assert [span.tokens for span in drawn.spans if span.phase == "speculative"] == [30, 50, 9]


@pytest.mark.parametrize(
    ("times", "last", "during"),
    [
        ({"began": 0, "end": 5}, (0, 5), "wait"),
        ({"began": 0, "end": 5, "segments": [[2, 6, 10]]}, (2, 5), "speculative"),
        ({"began": 0, "start": 3, "end": 5}, (3, 5), "prefill"),
        ({"began": 0, "start": 3, "first_token": 4, "end": 5}, (4, 5), "decode"),
    ],
)
@pytest.mark.parametrize("state", ["aborted", "failed"])
def test_the_phase_that_was_cut_is_drawn_as_such(
    state: str, times: dict[str, Any], last: tuple[float, float], during: str
) -> None:
    drawn = row(state, **times)
    assert phases(drawn)[-1] == (state, *last)
    assert drawn.spans[-1].during == during
    assert all(span.phase not in ("aborted", "failed") for span in drawn.spans[:-1])
    assert drawn.stopped == 5


def test_open_phases_end_now() -> None:
    drawn = row("running", seconds=6.5, run_state="running", began=0, start=2, first_token=4)
    assert phases(drawn)[-1] == ("decode", 4, 6.5)
    assert [span.open for span in drawn.spans] == [False, False, True]


@pytest.mark.parametrize(
    ("state", "run_state", "note"),
    [
        ("skipped", "done", "never sent"),
        ("skipped", "running", "never sent"),
        ("waiting", "running", "waiting"),
        ("waiting", "failed", "never sent"),
        ("failed", "failed", "failed before it was sent"),
        ("aborted", "cancelled", "aborted before it was sent"),
    ],
)
def test_an_agent_without_bars_says_why(state: str, run_state: str, note: str) -> None:
    drawn = row(state, run_state=run_state)
    assert (drawn.spans, drawn.note) == ((), note)


def test_a_skipped_agent_has_no_bar_even_with_times() -> None:
    assert row("skipped", began=1, end=4).spans == ()


@any_run
def test_phases_are_in_order_and_have_a_length(run: traces.Json) -> None:
    record = read_run(run)
    for drawn in rows(record):
        for span in drawn.spans:
            assert span.end > span.start >= 0
        for before, after in zip(drawn.spans, drawn.spans[1:], strict=False):
            assert before.end == after.start
        assert bool(drawn.spans) != bool(drawn.note)
        assert drawn.agent.state != "skipped" or not drawn.spans


def test_the_critical_path_is_the_chain_of_the_slowest() -> None:
    steps = critical_path(read_run(traces.finished()))
    assert [step.agent for step in steps] == ["proposer-33", "aggregator-3", "final"]
    assert [step.seconds for step in steps] == pytest.approx([10.8, 8.6, 12.0])


def test_an_aborted_agent_holds_nobody_up() -> None:
    steps = critical_path(read_run(traces.early_exit()))
    assert [step.agent for step in steps] == ["proposer-13", "aggregator-1", "final"]


def test_the_critical_path_of_a_running_run_ends_with_what_runs() -> None:
    steps = critical_path(read_run(traces.running()))
    assert [(step.agent, step.end) for step in steps] == [("proposer-13", 9.7), ("aggregator-1", 9.7)]


@any_run
def test_the_critical_path_adds_up(run: traces.Json) -> None:
    steps = critical_path(read_run(run))
    assert all(step.seconds >= 0 for step in steps)
    assert sum(step.seconds for step in steps) == pytest.approx(steps[-1].end if steps else 0)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"seconds": None}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"agents": [{"agent": "a"}]}, "agents.0.cluster"),
        ({"agents": [traces.agent("a", "c", 0, end=-1)]}, "agents.0.end"),
        ({"state": "lost"}, "state"),
    ],
)
def test_a_wrong_trace_is_refused_by_its_key(change: traces.Json, key: str) -> None:
    with pytest.raises(BadRequest, match=rf"^the trace is wrong at {key}: .*\.$"):
        read_run({**traces.finished(), **change})
