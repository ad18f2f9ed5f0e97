"""Where a prompt's last segment spends its time.

`python -m router.bench.speculative_prefill.tail_profile --router URL`.

Asks a running pair for a short prompt and for one of the same few tokens behind a long prefix that
both servers hold, in turns, and prints the medians of their times to the first token (TTFT). Then lets
SGLang's own profiler (`/start_profile`) look at the prefill server while it does the same again, and
prints what its GPU did in each forward pass. The profiler slows what it looks at, so times to the first
token come from before it; from the trace, what counts is which kernels ran and for how long.

The prefill server must run on this machine: its trace is read from a folder.
"""

import argparse
import asyncio
import gzip
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from router.bench.speculative_prefill.load import Bench, Sizes
from router.bench.speculative_prefill.pair import close_pair, open_pair, parser_of, setting
from router.errors import RouterError
from router.workers.queries import fetch_response
from router.workers.worker import Worker

APART = 2_000  # us without a kernel between two forward passes
PATIENCE = 120.0  # s, that a server gets to write its trace
SETTLE = 0.3  # s, so that a prompt's last pages are in both caches before it is asked again
KINDS = {  # the first that fits counts: the merging of partial results carries "attention" in its name too
    "merging of attention": ("merge", "variablelength"),
    "copies": ("memcpy", "memset", "copy"),
    "attention": ("prefillwith", "decodewith", "attention", "fmha", "flash"),
    "matrix products": ("gemm", "nvjet", "cutlass", "cublas", "splitk"),
}


@dataclass
class Pass:
    """What the GPU did between two pauses. Times are microseconds."""

    span: float = 0.0
    busy: float = 0.0
    kernels: int = 0
    launches: int = 0
    graphs: int = 0
    kinds: dict[str, float] = field(default_factory=dict)
    longest: list[tuple[str, float, int]] = field(default_factory=list)


def kind_of(kernel: str) -> str:
    """The group a kernel's time is counted in."""
    name = kernel.lower()
    return next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "the rest")


def passes(events: Iterable[dict[str, Any]]) -> list[Pass]:
    """The forward passes in a torch trace's `traceEvents`, in order: kernels with no pause of `APART` between them."""
    events = list(events)
    timed = [event for event in events if event.get("ph") == "X" and "dur" in event]
    on_gpu = sorted(
        (e for e in timed if e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")), key=lambda e: float(e["ts"])
    )
    groups: list[list[dict[str, Any]]] = []
    end = float("-inf")
    for event in on_gpu:
        if event["ts"] - end > APART:
            groups.append([])
        groups[-1].append(event)
        end = max(end, event["ts"] + event["dur"])
    runtime = [event for event in timed if event.get("cat") in ("cuda_runtime", "cuda_driver")]
    return [_summary(group, runtime) for group in groups]


def _summary(group: list[dict[str, Any]], runtime: list[dict[str, Any]]) -> Pass:
    began = float(group[0]["ts"])
    ended = max(float(event["ts"]) + float(event["dur"]) for event in group)
    calls = {event["args"].get("correlation") for event in group if "args" in event}
    names = [event["name"] for event in runtime if event.get("args", {}).get("correlation") in calls]
    by_kind: dict[str, float] = defaultdict(float)
    by_name: dict[str, list[float]] = defaultdict(list)
    for event in group:
        by_kind[kind_of(event["name"])] += event["dur"]
        by_name[event["name"][:90]].append(event["dur"])
    longest = sorted(((name, sum(each), len(each)) for name, each in by_name.items()), key=lambda row: -row[1])
    return Pass(
        span=ended - began,
        busy=sum(event["dur"] for event in group),
        kernels=len(group),
        launches=sum("LaunchKernel" in name for name in names),
        graphs=sum("GraphLaunch" in name for name in names),
        kinds=dict(by_kind),
        longest=longest[:6],
    )


@dataclass
class Tail:
    """The measurements over one pair."""

    bench: Bench
    prompt: int
    tail: int

    async def short(self) -> float:
        """TTFT, in seconds, of a prompt as long as the tail."""
        return await self.bench.cold(self.tail)

    async def behind(self, prefix: list[int]) -> float:
        """TTFT, in seconds, of as many tokens behind a prefix that the servers hold."""
        return await self.bench.ask(None, prefix + self.bench.ids(self.tail))

    async def prefix(self) -> list[int]:
        """A prefix of whole pages, held by both servers from here on."""
        ids = self.bench.ids((self.prompt - self.tail) // 64 * 64)
        # One token more, since a server keeps back a prompt's last one.
        await self.bench.ask(None, ids + self.bench.ids(1))
        await asyncio.sleep(SETTLE)
        return ids

    async def in_turns(self, repeats: int) -> dict[str, list[float]]:
        """Both times to the first token, after two turns that warm up."""
        found: dict[str, list[float]] = {"short": [], "behind": []}
        for turn in range(-2, repeats):
            prefix = await self.prefix()
            short, behind = await self.short(), await self.behind(prefix)
            if turn >= 0:
                found["short"].append(short)
                found["behind"].append(behind)
        return found

    async def profiled(self, prefill: Worker, repeats: int) -> tuple[list[Pass], list[Pass]]:
        """The prefill server's forward passes of short prompts, and of as many tokens behind a prefix."""
        prefixes = [await self.prefix() for _ in range(repeats)]
        with tempfile.TemporaryDirectory() as folder:
            wish = {"output_dir": folder, "activities": ["CPU", "GPU"], "with_stack": False}
            await _tell(prefill, "/start_profile", wish)
            for prefix in prefixes:
                await self.short()
                await asyncio.sleep(SETTLE)
                await self.behind(prefix)
                await asyncio.sleep(SETTLE)
            await _tell(prefill, "/stop_profile", {})
            found = passes(await asyncio.to_thread(_trace_in, Path(folder)))
        forward = [each for each in found if "attention" in each.kinds]
        if len(forward) != 2 * repeats:
            raise RouterError(
                f"the trace shows {len(forward)} forward passes instead of {2 * repeats}: is the pair otherwise idle?"
            )
        return forward[::2], forward[1::2]


async def _tell(worker: Worker, path: str, body: dict[str, Any]) -> None:
    """Post to a worker; raises `RouterError` unless it says 200."""
    status, told, _ = await fetch_response(worker, "POST", path, json.dumps(body).encode(), timeout=PATIENCE)
    if status != 200:
        raise RouterError(f"{worker.url}{path} answered {status}: {told[:200]!r}")


def _trace_in(folder: Path) -> list[dict[str, Any]]:
    """The events of the one trace that is being written into a folder."""
    deadline = time.monotonic() + PATIENCE
    size = -1
    while time.monotonic() < deadline:
        time.sleep(1)
        files = list(folder.glob("*.json.gz"))
        if files and files[0].stat().st_size == size:
            with gzip.open(files[0], "rt") as file:
                events: list[dict[str, Any]] = json.load(file)["traceEvents"]
            return events
        size = files[0].stat().st_size if files else -1
    raise RouterError(f"the prefill server wrote no trace within {PATIENCE:g} s: does it run on this machine?")


def table(seconds: dict[str, list[float]], forward: dict[str, list[Pass]], tail: int, prompt: int) -> str:
    """The figures as text."""
    words = {"short": f"{tail} tokens", "behind": f"{tail} tokens behind {prompt - tail}"}
    short = statistics.median(seconds["short"])
    lines = [f"{'':28} {'TTFT':>8} {'ratio':>6}  the prefill server's GPU, ms: from first kernel to last, busy"]
    for name, each in seconds.items():
        value = statistics.median(each)
        found = forward.get(name, [])
        middle = sorted(found, key=lambda one: one.span)[len(found) // 2] if found else None
        told = "" if middle is None else f"  {middle.span / 1e3:6.2f} {middle.busy / 1e3:6.2f}"
        lines.append(f"{words[name]:28} {1e3 * value:8.1f} {value / short:6.2f}{told}")
        if middle is None:
            continue
        lines.append(
            f"    {middle.kernels} kernels and copies, {middle.launches} launches, {middle.graphs} graph launches"
        )
        kinds = sorted(middle.kinds.items(), key=lambda item: -item[1])
        lines.append("    " + ", ".join(f"{kind} {spent / 1e3:.2f}" for kind, spent in kinds))
        lines.extend(f"    {spent / 1e3:7.2f}  {count:4} x {kernel}" for kernel, spent, count in middle.longest)
    return "\n".join(lines)


async def run(options: argparse.Namespace) -> int:
    """Measure, print and write."""
    dispatcher = await open_pair(options, "tail_profile")
    if dispatcher is None:
        return 2
    prefill, decode = dispatcher.registry.workers
    measured = Tail(Bench(dispatcher, str(decode.model), Sizes()), options.prompt, options.tail)
    head = {**setting(options, "tail_profile"), "prompt": options.prompt, "tail": options.tail}
    forward: dict[str, list[Pass]] = {}
    try:
        seconds = await measured.in_turns(options.repeats)
        if options.passes:
            forward["short"], forward["behind"] = await measured.profiled(prefill, options.passes)
    except RouterError as error:
        print(f"tail_profile: {error}", file=sys.stderr)
        return 1
    finally:
        await close_pair(dispatcher)
    print("\n".join(f"{key}: {value}" for key, value in head.items()))
    print(table(seconds, forward, options.tail, options.prompt))
    if options.out:
        told = {name: [asdict(each) for each in found] for name, found in forward.items()}
        options.out.write_text(json.dumps({**head, "seconds": seconds, "passes": told}, indent=1) + "\n")
    return 0


def main() -> int:
    """The command."""
    parser = parser_of("Where a prompt's last segment spends its time, on a running pair")
    parser.add_argument("--prompt", type=int, default=12_000, help="tokens of the long prompt, the tail among them")
    parser.add_argument("--tail", type=int, default=64, help="tokens of the last segment, and of the short prompt")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--passes", type=int, default=3, help="of each kind under the profiler; 0: no profile")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    raise SystemExit(main())
