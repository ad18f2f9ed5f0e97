"""Keeps the traces of recent runs in memory, for `/runs`."""

from collections import OrderedDict
from collections.abc import Iterator

from router.errors import NotFound
from router.observability.run_trace import RunTrace

MAX_RUNNING_FACTOR = 4  # runs that still go on may be this many times `max_runs`


class RunStore:
    """Keeps traces of runs; the oldest finished ones are dropped for new ones.

    Args:
        max_runs: Traces to keep. One of thirteen agents with 300 words each takes some 50 kB.
        max_bytes: Bytes of the traces to keep.
        redact_text: Whether traces lose their texts once the client has its answer.

    Attributes:
        redact_text: As given.
    """

    def __init__(self, max_runs: int = 256, max_bytes: int = 64 << 20, *, redact_text: bool = False) -> None:
        self.redact_text = redact_text
        self._max_runs = max_runs
        self._max_bytes = max_bytes
        self._traces: OrderedDict[tuple[str, str], RunTrace] = OrderedDict()  # by owner and id

    def add(self, trace: RunTrace) -> None:
        """Keep the trace of a run that starts."""
        self._traces[trace.owner, trace.id] = trace
        finished = [key for key, kept in self._traces.items() if kept.state != "running"]
        for key in finished[: max(len(self._traces) - self._max_runs, 0)]:
            del self._traces[key]
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
        for key, trace in [*self._traces.items()] if excess > 0 else ():
            if excess > 0 and trace.state != "running":
                excess -= trace.size
                del self._traces[key]

    def find(self, run_id: str, reader: str | None = None, owner: str | None = None) -> RunTrace:
        """The trace of a run, of several with that id the newest.

        Args:
            run_id: Its id.
            reader: Only runs of this owner may be seen; None for all.
            owner: Only runs of this owner are asked for; None for all.

        Raises:
            NotFound: It is not kept, or not any more, or it may not be seen.
        """
        found = [trace for trace in self._seen(reader, owner) if trace.id == run_id]
        if not found:
            raise NotFound(f"there is no run {run_id!r} here; the last {self._max_runs} are kept.")
        return max(found, key=lambda trace: trace.created)

    def summaries(self, reader: str | None = None, owner: str | None = None) -> list[dict[str, object]]:
        """A summary of each run, newest first; `reader` and `owner` as for `find`."""
        return [
            {
                "run": each.id,
                "tree": each.tree,
                "arm": each.arm,
                "state": each.state,
                "created": each.created,
                **({"owner": each.owner} if reader is None and each.owner else {}),
            }
            for each in self._seen(reader, owner)
        ]

    def _seen(self, reader: str | None, owner: str | None) -> Iterator[RunTrace]:
        """The traces of one owner, or of all, newest first."""
        for trace in reversed(self._traces.values()):
            if reader in (None, trace.owner) and owner in (None, trace.owner):
                yield trace
