"""The cases of the benchmark, and the order in which targets are measured."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import orjson

from router.bench import load_generator, wrk
from router.bench.fake_responses import MODEL
from router.bench.routers import Target
from router.bench.sample import Sample

PATH, CHAT = "/generate", "/v1/chat/completions"
MIB = 1 << 20
FEW = 100  # connections that may begin at once
SETTLE = 0.2  # seconds after streams that were cut off, in which servers and routers close them
SHORT = orjson.dumps({"text": "Why is the sky blue?", "sampling_params": {"max_new_tokens": 8, "temperature": 0.7}})


@dataclass(frozen=True)
class Case:
    """One kind of load.

    Attributes:
        name: As the table shows it.
        kind: Short requests, streams or long bodies.
        connections: Connections that send requests at the same time.
        body: Of each request.
        path: Of each request.
        limit: Most requests on a connection; None for as many as time allows.
        times_longer: How many times as long as other cases it takes.
    """

    name: str
    kind: Literal["short", "stream", "long"]
    connections: int
    body: bytes = SHORT
    path: str = PATH
    limit: int | None = None
    times_longer: int = 1


def stream_body(tokens: int, tick: int) -> bytes:
    """A body that the fake server answers with a stream; `tick` is microseconds between tokens."""
    return orjson.dumps({"text": f"tokens={tokens} tick={tick}", "stream": True})


def long_body(size: int) -> bytes:
    """A body of `size` bytes."""
    empty = orjson.dumps({"text": "", "sampling_params": {"max_new_tokens": 8}})
    return empty.replace(b'""', b'"%b"' % (b"word " * (size // 5 + 1))[: size - len(empty)])


def chat_body(size: int) -> bytes:
    """A chat of two messages, of `size` bytes."""
    words = [{"role": role, "content": text} for role, text in (("system", ""), ("user", "Why is the sky blue?"))]
    empty = orjson.dumps({"model": MODEL, "messages": words, "max_tokens": 8})
    return empty.replace(b'""', b'"%b"' % (b"word " * (size // 5 + 1))[: size - len(empty)])


def short_cases(connections: Sequence[int]) -> list[Case]:
    """Short requests, answered at once."""
    return [Case(f"{count} connection{'s' if count > 1 else ''}", "short", count) for count in connections]


def body_cases(streams: int, open_streams: int, body_mib: int) -> list[Case]:
    """Streams at full speed, streams at the pace of a model, few and many of a slow one, chats and long bodies."""
    slow = stream_body(1000, 50_000)
    return [
        Case(f"{streams} streams, full speed", "stream", streams, stream_body(1000, 0)),
        Case(f"{streams} streams, 200 tokens/s each", "stream", streams, stream_body(1000, 5000)),
        Case("1 stream, 20 tokens/s", "stream", 1, slow, times_longer=5),
        Case(f"{open_streams} streams, 20 tokens/s each", "stream", open_streams, slow, times_longer=5),
        Case("100 kB chat, 8 connections", "long", 8, chat_body(100_000), CHAT),
        Case(f"{body_mib} MiB body", "long", 1, long_body(body_mib * MIB), limit=10),
    ]


@dataclass(frozen=True)
class Load:
    """Generates load.

    Attributes:
        seconds: Length of each measurement.
        folder: For temporary files.
        use_wrk: Whether wrk sends the short requests; else `load_generator` does.
    """

    seconds: float
    folder: Path
    use_wrk: bool = True

    def measure(self, case: Case, target: Target) -> Sample:
        """Measure one case at one target; raises `BenchError`."""
        before = target.process.cpu() if target.process else 0.0
        if case.kind == "short" and self.use_wrk:
            sample = wrk.measure(
                target.url, case.path, case.body, connections=case.connections, seconds=self.seconds, folder=self.folder
            )
        else:
            sample = load_generator.measure(
                target.url,
                case.path,
                case.body,
                connections=case.connections,
                seconds=self.seconds * case.times_longer,
                ramp=min(1.0, self.seconds) if case.connections > FEW else 0.0,
                limit=case.limit,
            )
        if target.process is None:
            return sample
        target.process.check_running()
        units = sample.tokens if case.kind == "stream" else sample.requests
        return replace(sample, cpu=(target.process.cpu() - before) * 1e6 / max(1, units))


Samples = dict[str, list[Sample]]


def run_case(
    case: Case, targets: Sequence[Target], rounds: int, load: Load, report_progress: Callable[[str], None]
) -> Samples:
    """Each target's samples, one per round. Every other round measures the routers in reverse order."""
    direct, *routers = targets
    samples: Samples = {target.name: [] for target in targets}
    for turn in range(rounds):
        for target in (direct, *(reversed(routers) if turn % 2 else routers)):
            report_progress(f"{case.name}, round {turn + 1} of {rounds}: {target.name}")
            samples[target.name].append(load.measure(case, target))
            if case.kind == "stream":
                time.sleep(SETTLE)
    return samples
