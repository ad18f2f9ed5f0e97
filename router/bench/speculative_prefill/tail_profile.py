"""Where the prefill of a prompt's tail spends its time.

`python -m router.bench.speculative_prefill.tail_profile --router URL`.

Sends a running pair short prompts, and prompts of as many new tokens behind a long cached prefix, in turns, and prints
the medians of their times to first token (TTFT). Then it does so again under SGLang's profiler (`/start_profile`), and
prints what the prefill server's GPU did in each forward pass. The profiler slows the server, so the TTFTs come from
before; the trace tells which kernels ran and for how long.

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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from router.bench.speculative_prefill.command import command_parser, record_head
from router.bench.speculative_prefill.gpu_trace import Pass, passes
from router.bench.speculative_prefill.load import Bench, Sizes
from router.bench.speculative_prefill.pair import close_pair, open_pair
from router.errors import RouterError
from router.workers.queries import fetch_response
from router.workers.worker import Worker

TRACE_TIMEOUT = 120.0  # seconds, of a server to write its trace
CACHE_DELAY = 0.3  # seconds until both servers have cached a prompt


@dataclass
class TailBench:
    """The measurements on one pair. `prompt` and `tail` are tokens; the tail is part of the prompt."""

    bench: Bench
    prompt: int
    tail: int

    async def short(self) -> float:
        """TTFT, in seconds, of a prompt as long as the tail."""
        return await self.bench.cold(self.tail)

    async def behind(self, prefix: list[int]) -> float:
        """TTFT, in seconds, of a prompt of the tail behind a cached prefix."""
        return await self.bench.ttft(None, prefix + self.bench.random_ids(self.tail))

    async def cached_prefix(self) -> list[int]:
        """A fresh prefix of whole pages, cached by both servers on return."""
        ids = self.bench.random_ids((self.prompt - self.tail) // 64 * 64)
        # One token more, since a server does not cache the last token of a prompt.
        await self.bench.ttft(None, ids + self.bench.random_ids(1))
        await asyncio.sleep(CACHE_DELAY)
        return ids

    async def in_turns(self, repeats: int) -> dict[str, list[float]]:
        """TTFTs of both kinds of prompt, in seconds; two more turns before warm up."""
        ttfts: dict[str, list[float]] = {"short": [], "behind": []}
        for turn in range(-2, repeats):
            prefix = await self.cached_prefix()
            short, behind = await self.short(), await self.behind(prefix)
            if turn >= 0:
                ttfts["short"].append(short)
                ttfts["behind"].append(behind)
        return ttfts

    async def profiled(self, prefill: Worker, repeats: int) -> tuple[list[Pass], list[Pass]]:
        """The prefill server's forward passes of short prompts, and of as many tokens behind a prefix."""
        prefixes = [await self.cached_prefix() for _ in range(repeats)]
        with tempfile.TemporaryDirectory() as folder:
            options = {"output_dir": folder, "activities": ["CPU", "GPU"], "with_stack": False}
            await _post(prefill, "/start_profile", options)
            for prefix in prefixes:
                await self.short()
                await asyncio.sleep(CACHE_DELAY)
                await self.behind(prefix)
                await asyncio.sleep(CACHE_DELAY)
            await _post(prefill, "/stop_profile", {})
            recorded = passes(await asyncio.to_thread(_read_trace, Path(folder)))
        forward = [each for each in recorded if "attention" in each.kinds]
        if len(forward) != 2 * repeats:
            raise RouterError(
                f"the trace shows {len(forward)} forward passes instead of {2 * repeats}: is the pair otherwise idle?"
            )
        return forward[::2], forward[1::2]


async def _post(worker: Worker, path: str, body: dict[str, Any]) -> None:
    """Post to a worker; raises `RouterError` unless the status is 200."""
    status, response, _ = await fetch_response(worker, "POST", path, json.dumps(body).encode(), timeout=TRACE_TIMEOUT)
    if status != 200:
        raise RouterError(f"{worker.url}{path} answered {status}: {response[:200]!r}")


def _read_trace(folder: Path) -> list[dict[str, Any]]:
    """The events of the one trace that is being written into a folder; waits until it is complete."""
    deadline = time.monotonic() + TRACE_TIMEOUT
    size = -1
    while time.monotonic() < deadline:
        time.sleep(1)
        files = list(folder.glob("*.json.gz"))
        if files and files[0].stat().st_size == size:
            with gzip.open(files[0], "rt") as file:
                events: list[dict[str, Any]] = json.load(file)["traceEvents"]
            return events
        size = files[0].stat().st_size if files else -1
    raise RouterError(f"the prefill server wrote no trace within {TRACE_TIMEOUT:g} s: does it run on this machine?")


def table(seconds: dict[str, list[float]], forward: dict[str, list[Pass]], tail: int, prompt: int) -> str:
    """The results as text."""
    labels = {"short": f"{tail} tokens", "behind": f"{tail} tokens behind {prompt - tail}"}
    short = statistics.median(seconds["short"])
    lines = [f"{'':28} {'TTFT':>8} {'ratio':>6}  the prefill server's GPU, ms: from first kernel to last, busy"]
    for name, ttfts in seconds.items():
        value = statistics.median(ttfts)
        recorded = forward.get(name, [])
        median_pass = sorted(recorded, key=lambda each: each.span)[len(recorded) // 2] if recorded else None
        gpu = "" if median_pass is None else f"  {median_pass.span / 1e3:6.2f} {median_pass.busy / 1e3:6.2f}"
        lines.append(f"{labels[name]:28} {1e3 * value:8.1f} {value / short:6.2f}{gpu}")
        if median_pass is None:
            continue
        lines.append(
            f"    {median_pass.kernels} kernels and copies, {median_pass.launches} launches, "
            f"{median_pass.graphs} graph launches"
        )
        kinds = sorted(median_pass.kinds.items(), key=lambda item: -item[1])
        lines.append("    " + ", ".join(f"{kind} {spent / 1e3:.2f}" for kind, spent in kinds))
        lines.extend(f"    {spent / 1e3:7.2f}  {count:4} x {kernel}" for kernel, spent, count in median_pass.longest)
    return "\n".join(lines)


async def run(options: argparse.Namespace) -> int:
    """Measure, print the table, write the record; returns the exit code."""
    dispatcher = await open_pair(options, "tail_profile")
    if dispatcher is None:
        return 2
    prefill, decode = dispatcher.registry.workers
    bench = TailBench(Bench(dispatcher, str(decode.model), Sizes()), options.prompt, options.tail)
    head = {**record_head(options, "speculative_prefill.tail_profile"), "prompt": options.prompt, "tail": options.tail}
    forward: dict[str, list[Pass]] = {}
    try:
        seconds = await bench.in_turns(options.repeats)
        if options.passes:
            forward["short"], forward["behind"] = await bench.profiled(prefill, options.passes)
    except RouterError as error:
        print(f"tail_profile: {error}", file=sys.stderr)
        return 1
    finally:
        await close_pair(dispatcher)
    print("\n".join(f"{key}: {value}" for key, value in head.items()))
    print(table(seconds, forward, options.tail, options.prompt))
    if options.out:
        records = {name: [asdict(each) for each in recorded] for name, recorded in forward.items()}
        options.out.write_text(json.dumps({**head, "seconds": seconds, "passes": records}, indent=1) + "\n")
    return 0


def main() -> int:
    """Parse the command line and run."""
    parser = command_parser("Where a prompt's last segment spends its time, on a running pair")
    parser.add_argument("--prompt", type=int, default=12_000, help="tokens of the long prompt, the tail among them")
    parser.add_argument("--tail", type=int, default=64, help="tokens of the last segment, and of the short prompt")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--passes", type=int, default=3, help="of each kind under the profiler; 0: no profile")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    raise SystemExit(main())
