"""The Chrome trace has the shape that Perfetto reads."""

import json
from collections import defaultdict
from itertools import pairwise

from router.timeline import chrome_trace
from tests.router.timeline import traces
from tests.router.timeline.strategies import any_run

NEEDED = {
    "M": {"name": str, "pid": int, "tid": int, "args": dict},
    "X": {"name": str, "cat": str, "ts": int, "dur": int, "pid": int, "tid": int, "args": dict},
    "i": {"name": str, "cat": str, "ts": int, "s": str, "pid": int, "tid": int, "args": dict},
    "s": {"name": str, "cat": str, "ts": int, "id": int, "pid": int, "tid": int},
    "f": {"name": str, "cat": str, "ts": int, "id": int, "pid": int, "tid": int, "bp": str},
}
METADATA = {"process_name": ("name", str), "thread_name": ("name", str), "thread_sort_index": ("sort_index", int)}


def check(trace: traces.Json) -> None:
    """Keys and types of every event, order, nesting and pairs. Raises `AssertionError`."""
    json.dumps(trace, allow_nan=False)
    events = trace["traceEvents"]
    for event in events:
        needed = NEEDED[event["ph"]]
        assert set(event) - {"ph"} == set(needed), event
        assert all(type(event[key]) is kind for key, kind in needed.items()), event
        if event["ph"] == "M":
            key, kind = METADATA[event["name"]]
            assert type(event["args"][key]) is kind
    timed = [event for event in events if event["ph"] != "M"]
    assert all(before["ts"] <= after["ts"] for before, after in pairwise(timed))
    assert all(event["ts"] >= 0 and event.get("dur", 0) >= 0 for event in timed)
    named = {event["tid"] for event in events if event["name"] == "thread_name"}
    assert {event["tid"] for event in timed} <= named
    check_slices(timed)
    check_flows(timed)


def check_slices(timed: list[traces.Json]) -> None:
    tracks = defaultdict(list)
    for event in timed:
        if event["ph"] == "X":
            tracks[event["tid"]].append(event)
    for slices in tracks.values():
        assert all(before["ts"] + before["dur"] <= after["ts"] for before, after in pairwise(slices))


def check_flows(timed: list[traces.Json]) -> None:
    flows: defaultdict[int, traces.Json] = defaultdict(dict)
    for event in timed:
        if event["ph"] in "sf":
            assert event["ph"] not in flows[event["id"]]
            flows[event["id"]][event["ph"]] = event
    for flow in flows.values():
        assert flow["s"]["ts"] <= flow["f"]["ts"]
        assert flow["f"]["bp"] == "e"
        for end in flow.values():
            around = [e for e in timed if e["ph"] == "X" and e["tid"] == end["tid"]]
            assert any(e["ts"] <= end["ts"] <= e["ts"] + e["dur"] for e in around), end


def test_a_finished_run_has_threads_by_layer_and_an_arrow_for_each_answer_read() -> None:
    trace = chrome_trace(traces.finished())
    check(trace)
    events = trace["traceEvents"]
    assert events[0]["args"]["name"] == "run-5a3bd1e07c2f4e64 (moa, splice)"
    threads = [event["args"]["name"] for event in events if event["name"] == "thread_name"]
    assert threads[0] == "0 / proposers-1 / proposer-11"
    assert threads[-1] == "2 / final / final"
    assert len(threads) == 13
    assert sum(event["ph"] == "s" for event in events) == 12
    decode = next(event for event in events if event["ph"] == "X" and event["name"] == "decode")
    assert (decode["ts"] + decode["dur"]) == 7_900_000


def test_decisions_are_instants_with_their_scores() -> None:
    trace = chrome_trace(traces.early_exit())
    check(trace)
    instants = [event for event in trace["traceEvents"] if event["ph"] == "i"]
    assert [event["ts"] for event in instants] == [9_620_000, 9_920_000, 10_120_000, 17_410_000]
    assert instants[0]["name"] == "proposers-1: go on"
    assert instants[1]["args"]["Q"] == 0.93


def test_an_aborted_answer_has_no_arrow() -> None:
    events = chrome_trace(traces.early_exit())["traceEvents"]
    threads = {event["args"]["name"]: event["tid"] for event in events if event["name"] == "thread_name"}
    sources = {event["tid"] for event in events if event["ph"] == "s"}
    assert threads["0 / proposers-2 / proposer-22"] in sources
    assert threads["0 / proposers-2 / proposer-23"] not in sources


@any_run
def test_any_run_has_a_valid_trace(run: traces.Json) -> None:
    check(chrome_trace(run))
