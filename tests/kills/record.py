"""What a run of the soak has seen, and whether it is good enough: one bar a promise."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.kills.answers import Result

ROLES = ("prefill", "decode", "judge", "router")
REQUEST_SECONDS = 60.0  # that the routers give a request
HANG_SECONDS = REQUEST_SECONDS + 30.0  # after which a request hangs; the machine may be slow
ANSWER_SECONDS = 1.0  # from the first successful generation to the router's answer
REFUSED_SHARE = 0.05
BOTH = "both"  # the router that has both pairs
CUT_SECONDS = 5.0  # after a router process's end its client, on a busy machine, may learn of it


@dataclass
class Outcome:
    """What became of a request.

    Attributes:
        kind: Of the request.
        router: Which one was asked: `BOTH`, or the name of the only pair of another.
        result: See `Result`.
        status: Of the answer; 0 when there was none.
        began: Seconds since the beginning of the load.
        ended: The same.
        told: The beginning of what came instead of an answer.
    """

    kind: str
    router: str
    result: Result
    status: int
    began: float
    ended: float
    told: str = ""


@dataclass
class Kill:
    """One kill -9.

    Attributes:
        role: One of `ROLES`.
        victim: Which process.
        at: Seconds since the beginning of the load.
        machine_load: Processes of the machine that ran or waited for a core then, by the mean of a minute.
        generated: Seconds after it until a generation succeeded that was sent to the servers by hand; None: none did.
        answered: The same of a request to a router that needs the killed process.
        back: Seconds until there was another process in the place of the killed one; None: there was none in time.
    """

    role: str
    victim: str
    at: float
    machine_load: float = 0.0
    generated: float | None = None
    answered: float | None = None
    back: float | None = None

    @property
    def delay(self) -> float | None:
        """Seconds from the first successful generation to the first answer; None when either did not come."""
        return None if self.generated is None or self.answered is None else self.answered - self.generated


@dataclass
class Held:
    """What the servers hold while nothing is asked of them.

    Attributes:
        free_kv: Tokens of each server's KV pool that are free or evictable.
        busy: Servers that have a request or hold KV.
        shared: Files in shared memory of all the processes that were started.
    """

    free_kv: dict[str, int]
    busy: list[str]
    shared: int


@dataclass
class Record:
    """All of a run.

    Attributes:
        minutes: How long the load lasted, and how many kills there were to be.
        kills: In their order.
        outcomes: Of all requests.
        start: Before the first kill.
        end: When all requests were over.
        left: Processes and shared memory that are there after everything was stopped.
    """

    minutes: int
    kills: list[Kill] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    start: Held | None = None
    end: Held | None = None
    left: list[str] | None = None


@dataclass(frozen=True)
class Bar:
    """One promise, whether it was kept, and what was found."""

    promise: str
    kept: bool
    found: str


def bars(record: Record) -> list[Bar]:
    """Every promise."""
    return [_kills(record), _hung(record), _answered(record), _in_time(record), _refused(record), *_held(record)]


def refused_share(outcomes: Sequence[Outcome], router: str) -> float:
    """The share of refusals among a router's requests whose clients stayed and that it could end."""
    results = Counter(each.result for each in outcomes if each.router == router)
    ended = results["answer"] + results["refused"] + results["broken"]
    return results["refused"] / ended if ended else 1.0


def explained(outcome: Outcome, kills: Sequence[Kill]) -> bool:
    """Whether a connection was lost because its router process was killed meanwhile."""
    ends = [kill.at for kill in kills if kill.role == "router" and outcome.router == BOTH]
    return any(outcome.began <= end <= outcome.ended <= end + CUT_SECONDS for end in ends)


def _kills(record: Record) -> Bar:
    gone = [f"{kill.victim} at {kill.at:.0f} s" for kill in record.kills if kill.back is None]
    kept = len(record.kills) == record.minutes and not gone
    found = f"{len(record.kills)} kills in {record.minutes} min; not back: {', '.join(gone) or 'none'}"
    return Bar("a kill each minute, and each process is back", kept, found)


def _hung(record: Record) -> Bar:
    longest = max((each.ended - each.began for each in record.outcomes), default=0.0)
    hung = sum(each.result == "hung" or each.ended - each.began > HANG_SECONDS for each in record.outcomes)
    return Bar(f"no request takes longer than {HANG_SECONDS:g} s", not hung, f"{hung}; the longest {longest:.1f} s")


def _answered(record: Record) -> Bar:
    wrong = [each for each in record.outcomes if each.result == "wrong"]
    lost = [each for each in record.outcomes if each.result == "cut" and not explained(each, record.kills)]
    cut = sum(each.result == "cut" for each in record.outcomes) - len(lost)
    found = f"{len(wrong)} others, {len(lost)} lost connections, and {cut} of killed router processes"
    kept = bool(record.outcomes) and not wrong and not lost
    return Bar("every request gets an answer or a 5xx", kept, found)


def _in_time(record: Record) -> Bar:
    delays = [kill.delay for kill in record.kills]
    late = [kill.victim for kill in record.kills if kill.delay is None or kill.delay > ANSWER_SECONDS]
    longest = max((delay for delay in delays if delay is not None), default=0.0)
    promise = f"after a kill the router answers within {ANSWER_SECONDS:g} s of the first successful generation"
    return Bar(promise, not late, f"the longest {longest:.2f} s; later or never: {', '.join(late) or 'none'}")


def _refused(record: Record) -> Bar:
    share = refused_share(record.outcomes, BOTH)
    promise = f"fewer than {REFUSED_SHARE:.0%} of the requests are refused where there is a second pair"
    return Bar(promise, share < REFUSED_SHARE, f"{share:.2%}")


def _held(record: Record) -> list[Bar]:
    start, end = record.start, record.end
    free = shared = False
    if start is not None and end is not None:
        free = start.free_kv == end.free_kv and bool(start.free_kv) and not end.busy
        shared = end.shared <= start.shared and record.left == []
    told = [f"{each.free_kv}, busy {each.busy or 'none'}" if each else "unknown" for each in (start, end)]
    files = " then ".join(f"{each.shared}" if each else "unknown" for each in (start, end))
    stay = f"{files} files; in the end {record.left or 'none'}"
    return [
        Bar("free KV is what it was", free, " then ".join(told)),
        Bar("nothing stays in shared memory", shared, stay),
    ]
