"""Keeps the traces of recent runs in memory, for `/runs`."""

from collections import OrderedDict

from router.errors import NotFound
from router.observability.run_trace import RunTrace

MAX_RUNNING_FACTOR = 4  # runs that still go on may be this many times `max_runs`


class RunStore:
    """Keeps traces of runs; the oldest finished ones are dropped for new ones.

    Args:
        max_runs: Traces to keep. One of thirteen agents with 300 words each takes some 50 kB.
        max_bytes: Bytes of the traces to keep.
    """

    def __init__(self, max_runs: int = 256, max_bytes: int = 64 << 20) -> None:
        self._max_runs = max_runs
        self._max_bytes = max_bytes
        self._traces: OrderedDict[str, RunTrace] = OrderedDict()

    def add(self, trace: RunTrace) -> None:
        """Keep the trace of a run that starts."""
        self._traces[trace.id] = trace
        finished = [run_id for run_id, kept in self._traces.items() if kept.state != "running"]
        for run_id in finished[: max(len(self._traces) - self._max_runs, 0)]:
            del self._traces[run_id]
        while len(self._traces) > MAX_RUNNING_FACTOR * self._max_runs:
            self._traces.popitem(last=False)
        self._drop_bytes()

    @property
    def size(self) -> int:
        """About how many bytes the traces take."""
        return sum(trace.size for trace in self._traces.values())

    def _drop_bytes(self) -> None:
        """Drop the oldest finished traces while all take too many bytes; what still runs is never dropped for that."""
        excess = self.size - self._max_bytes
        for run_id, trace in [*self._traces.items()] if excess > 0 else ():
            if excess > 0 and trace.state != "running":
                excess -= trace.size
                del self._traces[run_id]

    def find(self, run_id: str) -> RunTrace:
        """The trace of a run; raises `NotFound` when it is not kept, or not any more."""
        trace = self._traces.get(run_id)
        if trace is None:
            raise NotFound(f"there is no run {run_id!r} here; the last {self._max_runs} are kept.")
        return trace

    def to_json(self) -> list[dict[str, object]]:
        """A summary of each run, newest first."""
        return [
            {"run": each.id, "tree": each.tree, "arm": each.arm, "state": each.state, "created": each.created}
            for each in reversed(self._traces.values())
        ]
