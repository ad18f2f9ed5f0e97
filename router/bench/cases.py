"""What is measured, and in which order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import orjson

from router.bench import client, wrk
from router.bench.routers import Target
from router.bench.sample import Sample

PATH = "/generate"
MIB = 1 << 20
SHORT = orjson.dumps({"text": "Why is the sky blue?", "sampling_params": {"max_new_tokens": 8, "temperature": 0.7}})


@dataclass(frozen=True)
class Case:
    """One load.

    Attributes:
        name: What the table calls it.
        kind: Short requests, streams or long bodies.
        connections: How many send requests at the same time.
        body: What each request carries.
        limit: The most requests on a connection; None for as many as the time allows.
    """

    name: str
    kind: Literal["short", "stream", "long"]
    connections: int
    body: bytes = SHORT
    limit: int | None = None


def stream(tokens: int, tick: int) -> bytes:
    """A request that the fake server answers with a stream; `tick` in microseconds between its tokens."""
    return orjson.dumps({"text": f"tokens={tokens} tick={tick}", "stream": True})


def long_body(size: int) -> bytes:
    """A request of `size` bytes."""
    empty = orjson.dumps({"text": "", "sampling_params": {"max_new_tokens": 8}})
    return empty.replace(b'""', b'"%b"' % (b"word " * (size // 5 + 1))[: size - len(empty)])


def short_cases(connections: Sequence[int]) -> list[Case]:
    """Short requests, answered at once."""
    return [Case(f"{count} connection{'s' if count > 1 else ''}", "short", count) for count in connections]


def body_cases(streams: int, body_mib: int) -> list[Case]:
    """Streams as fast as they go, streams at the pace of a model, and one long body after another."""
    return [
        Case(f"{streams} streams, full speed", "stream", streams, stream(2000, 0)),
        Case(f"{streams} streams, 200 tokens/s each", "stream", streams, stream(2000, 5000)),
        Case(f"{body_mib} MiB body", "long", 1, long_body(body_mib * MIB), limit=10),
    ]


@dataclass(frozen=True)
class Load:
    """How load is made.

    Attributes:
        seconds: How long each measurement takes.
        folder: For files on the way.
        use_wrk: wrk for short requests; the client in Python when False.
    """

    seconds: float
    folder: Path
    use_wrk: bool = True

    def measure(self, case: Case, target: Target) -> Sample:
        """One case at one target; raises `BenchError`."""
        before = target.process.cpu() if target.process else 0.0
        if case.kind == "short" and self.use_wrk:
            sample = wrk.measure(
                target.url, PATH, case.body, connections=case.connections, seconds=self.seconds, folder=self.folder
            )
        else:
            sample = client.measure(
                target.url, PATH, case.body, connections=case.connections, seconds=self.seconds, limit=case.limit
            )
        if target.process is None:
            return sample
        target.process.check()
        units = sample.tokens if case.kind == "stream" else sample.requests
        return replace(sample, cpu=(target.process.cpu() - before) * 1e6 / max(1, units))


Samples = dict[str, list[Sample]]


def run(case: Case, targets: Sequence[Target], rounds: int, load: Load, tell: Callable[[str], None]) -> Samples:
    """Each target's samples, one a round; the routers change places in every other round."""
    direct, *routers = targets
    found: Samples = {target.name: [] for target in targets}
    for turn in range(rounds):
        for target in (direct, *(reversed(routers) if turn % 2 else routers)):
            tell(f"{case.name}, round {turn + 1} of {rounds}: {target.name}")
            found[target.name].append(load.measure(case, target))
    return found
