"""The runs of late, to be looked at."""

from collections import OrderedDict

from router.errors import NotFound
from router.observability.run_trace import RunTrace

MAX_UNFINISHED_FACTOR = 4  # times as many are kept while they go on


class RunStore:
    """Keeps traces, the oldest ended ones giving way to new ones.

    Args:
        most: Traces to keep; one of thirteen agents with 300 words each takes some 50 kB.
    """

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._traces: OrderedDict[str, RunTrace] = OrderedDict()

    def add(self, trace: RunTrace) -> None:
        """Keep a run that begins."""
        self._traces[trace.id] = trace
        ended = [key for key, each in self._traces.items() if each.state != "running"]
        for key in ended[: max(len(self._traces) - self._most, 0)]:
            del self._traces[key]
        while len(self._traces) > MAX_UNFINISHED_FACTOR * self._most:
            self._traces.popitem(last=False)

    def find(self, run: str) -> RunTrace:
        """Raises `NotFound` when it is not, or no longer, kept."""
        trace = self._traces.get(run)
        if trace is None:
            raise NotFound(f"there is no run {run!r} here; the last {self._most} are kept.")
        return trace

    def to_json(self) -> list[dict[str, object]]:
        """All of them in short, the youngest first."""
        return [
            {"run": each.id, "tree": each.tree, "arm": each.arm, "state": each.state, "created": each.created}
            for each in reversed(self._traces.values())
        ]
