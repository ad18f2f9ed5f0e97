"""A run in Chrome's trace event format, for Perfetto and chrome://tracing."""

from typing import Any

from router.timeline.formatting import PHASES
from router.timeline.record import AgentRecord, DecisionRecord, RunRecord, read_run
from router.timeline.spans import Row, rows

PROCESS = 1


def chrome_trace(run: dict[str, Any]) -> dict[str, Any]:
    """Trace events in microseconds: a process for the run, a thread for each agent, an arrow from answer to reader.

    Raises `BadRequest` when the trace is wrong.
    """
    record = read_run(run)
    tracks = sorted(rows(record), key=lambda row: row.agent.layer)
    threads = {id(row): number for number, row in enumerate(tracks, 1)}
    timed = [event for row in tracks for event in _slices(row, threads[id(row)])]
    timed += _flows(tracks, threads)
    # On a thread of their own: a decision belongs to a cluster, not to one agent.
    timed += [_instant(decision) for decision in record.decisions]
    return {
        "traceEvents": [*_names(record, tracks), *sorted(timed, key=lambda event: event["ts"])],
        "displayTimeUnit": "ms",
        "otherData": {key: getattr(record, key) for key in ("run", "tree", "arm", "order", "state", "created")},
    }


def _names(record: RunRecord, tracks: list[Row]) -> list[dict[str, Any]]:
    names = [_metadata("process_name", 0, f"{record.run} ({record.tree}, {record.arm})")]
    if record.decisions:
        names += [_metadata("thread_name", 0, "early-exit decisions"), _sort_index(0)]
    for number, row in enumerate(tracks, 1):
        names += [_metadata("thread_name", number, _title(row.agent)), _sort_index(number)]
    return names


def _title(agent: AgentRecord) -> str:
    suffix = "" if agent.state != "skipped" else " (never sent)"
    return f"{agent.layer} / {agent.cluster} / {agent.agent}{suffix}"


def _sort_index(thread: int) -> dict[str, Any]:
    return {"ph": "M", "name": "thread_sort_index", "pid": PROCESS, "tid": thread, "args": {"sort_index": thread}}


def _metadata(kind: str, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": PROCESS, "tid": thread, "args": {"name": name}}


def _slices(row: Row, thread: int) -> list[dict[str, Any]]:
    agent = row.agent
    shown = {"model", "state", "prompt_tokens", "cached_tokens", "completion_tokens", "finish_reason", "error"}
    details = agent.model_dump(include=shown)
    return [
        {
            "ph": "X",
            "name": PHASES[span.phase],
            "cat": "agent",
            "ts": _micro(span.start),
            "dur": _micro(span.end) - _micro(span.start),
            "pid": PROCESS,
            "tid": thread,
            "args": {**details, "during": PHASES[span.during], "tokens": span.tokens},
        }
        for span in row.spans
    ]


def _instant(decision: DecisionRecord) -> dict[str, Any]:
    verdict = "exit" if decision.exit else "go on"
    name = f"{decision.cluster}: {verdict}"
    event = {"ph": "i", "name": name, "cat": "decision", "s": "t", "ts": _micro(decision.at), "pid": PROCESS, "tid": 0}
    return {**event, "args": decision.model_dump(mode="json")}


def _flows(tracks: list[Row], threads: dict[int, int]) -> list[dict[str, Any]]:
    """An arrow from the end of each answer to the request that has it in its prompt."""
    events: list[dict[str, Any]] = []
    for reader in tracks:
        # By `during`: a request that was aborted or failed in the queue was sent, too.
        sent = next((span.start for span in reader.spans if span.during in ("prefill", "decode")), None)
        for source in tracks:
            if sent is None or not _read_by(source, reader) or source.spans[-1].end > sent:
                continue
            common = {"name": "answer", "cat": "answer", "id": len(events) // 2 + 1, "pid": PROCESS}
            # An arrow starts in the slice that contains its time, and a slice does not contain its end.
            start = max(_micro(source.spans[-1].start), _micro(source.spans[-1].end) - 1)
            events.append({**common, "ph": "s", "ts": start, "tid": threads[id(source)]})
            events.append({**common, "ph": "f", "bp": "e", "ts": _micro(sent), "tid": threads[id(reader)]})
    return events


def _read_by(source: Row, reader: Row) -> bool:
    earlier = source.agent.layer < reader.agent.layer and source.agent.cluster in reader.agent.reads
    return earlier and source.agent.state == "done" and bool(source.spans)


def _micro(seconds: float) -> int:
    return round(seconds * 1e6)
