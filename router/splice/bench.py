"""What splicing saves on a running pair: `python -m router.splice.bench --router URL [--model NAME]`.

Prints, from one run: the time to the first token (TTFT) of a cold prompt and of a short one; of a
prompt of the same length whose last part is the answer of an upstream that decodes on the same pair,
from the upstream's last token on; of several such prompts at once; and of ordinary requests beside an
upstream with such a dependent and without. Dependents wait for the whole answer (blocking), or are spliced
as on any SGLang (fallback) or with the overlay. Every prompt is fresh random token ids, so nothing is
cached before.

Ordinary requests come in rounds. In each round they come at the same random times in every way, one way
after the other. With `--prefill-log`, where they waited on the prefill server is read from its own log
(it must run with `--enable-request-time-stats-logging`).
"""

import argparse
import asyncio
import json
import random
import re
import shlex
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from router.body import Body
from router.errors import NoWorker, RouterError
from router.exchange import Exchange
from router.http.client import Origin
from router.http.sse import events
from router.moa.reading import read_event
from router.pd import Dispatcher
from router.policies import POLICIES
from router.splice.answer import Answer
from router.splice.carrier import Fallback, carrier_for
from router.splice.compose import Truncate, compose, own_ids
from router.splice.open_prompt import OpenPrompt
from router.splice.pacing import Pacer
from router.splice.speculation import Speculation
from router.splice.template import Template
from router.workers import Registry, Role, Worker
from sglang_ext.versions import versions

Way = Literal["blocking", "fallback", "overlay"]
WAYS: tuple[Way, ...] = get_args(Way)
WARM_UP = 2  # turns


@dataclass
class Sizes:
    """Token counts, repetitions and rates of a benchmark."""

    prompt: int = 12_000
    answer: int = 1_000
    short: int = 64
    ordinary: int = 1_000
    crowd: int = 7
    crowds: int = 2
    repeats: int = 5
    per_second: float = 3.0
    seconds: float = 30.0
    rounds: int = 1
    vocabulary: int = 32_000


@dataclass(frozen=True)
class Read:
    """One dependent: its TTFT from its upstream's last token on, and how long the upstream decoded."""

    ttft: float
    speculation: Speculation
    upstream: float


@dataclass
class Bench:
    """The measurements over one pair. Times are seconds."""

    dispatcher: Dispatcher
    model: str
    sizes: Sizes
    pacers: dict[Way, Pacer] = field(default_factory=lambda: {"fallback": Pacer(), "overlay": Pacer()})

    def ids(self, count: int) -> list[int]:
        """Random token ids."""
        return [random.randrange(10, self.sizes.vocabulary) for _ in range(count)]

    async def cold(self, count: int, **extra: Any) -> float:
        """TTFT of a prompt nobody has seen."""
        return await self.ask(None, self.ids(count), **extra)

    async def dependent(self, upstream: Answer, way: Way) -> tuple[float, Speculation]:
        """TTFT of a prompt that ends with an upstream's answer, from that answer's end."""
        literal = self.ids(self.sizes.prompt - self.sizes.answer)
        template = Template((tuple(literal), tuple(self.ids(8))), (upstream.name,))
        pair = self.dispatcher.choose(self.model)
        carry = carrier_for if way == "overlay" else lambda _: Fallback()
        async with OpenPrompt(self.dispatcher, lambda: pair, self.pacers.get(way), carry=carry) as prompt:
            async for part in compose(template, {upstream.name: upstream}, "declared", own_ids):
                assert not isinstance(part, Truncate)
                prompt.append(part)
            return await self.ask(prompt, []), prompt.speculation

    async def readers(self, count: int, way: Way) -> list[Read]:
        """`count` dependents of one upstream that decodes meanwhile."""
        upstream = Answer("upstream")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.dependent(upstream, way)) for _ in range(count)]
            decoding = group.create_task(self._decode(upstream))
        return [Read(*task.result(), decoding.result()) for task in tasks]

    async def traffic(self, name: str, seed: int) -> list[float]:
        """TTFTs of ordinary requests, which are called `name-seed-0` and so on, at random times."""
        arrivals = random.Random(seed)
        async with asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[float]] = []
            at = time.monotonic()
            end = at + self.sizes.seconds
            while (at := at + arrivals.expovariate(self.sizes.per_second)) < end:
                await asyncio.sleep(at - time.monotonic())
                rid = f"{name}-{seed}-{len(tasks)}"
                tasks.append(group.create_task(self.cold(self.sizes.ordinary, rid=rid)))
        return [task.result() for task in tasks]

    async def traffic_beside(self, work: Callable[[], Awaitable[Any]], name: str, seed: int) -> list[float]:
        """The same, while `work` is done again and again."""

        async def again() -> None:
            while True:
                await work()

        beside = asyncio.create_task(again())
        try:
            return await self.traffic(name, seed)
        finally:
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)

    async def _decode(self, answer: Answer) -> float:
        """Let a request write the answer; returns the seconds from its first token to its last."""
        body = {"input_ids": self.ids(self.sizes.short), "stream": True}
        sampling = {"max_new_tokens": self.sizes.answer, "ignore_eos": True, "temperature": 0.0}
        pair = self.dispatcher.choose(self.model)
        async with self.dispatcher.exchange("/generate", Body({**body, "sampling_params": sampling}), pair) as exchange:
            began = None
            async for progress in _progress(exchange):
                began = began or time.monotonic()
                answer.grow(progress)
        answer.finish()
        return time.monotonic() - (began or time.monotonic())

    async def ask(self, prompt: OpenPrompt | None, ids: list[int], **extra: Any) -> float:
        """Seconds to the first token of a prompt, an open one or one of these ids."""
        began = time.monotonic()
        first = None
        sampling = {"max_new_tokens": 4, "ignore_eos": True, "temperature": 0.0}
        body = {"stream": True, "sampling_params": sampling, **extra}
        if prompt is None:
            pair = self.dispatcher.choose(self.model)
            sending: AbstractAsyncContextManager[Exchange] = self.dispatcher.exchange(
                "/generate", Body({**body, "input_ids": ids}), pair
            )
        else:
            sending = prompt.finish(body)
        async with sending as exchange:
            async for _ in _progress(exchange):
                first = first or time.monotonic()
        if first is None:
            raise RouterError("the pair answered without a token.")
        return first - began


async def _progress(exchange: Exchange) -> AsyncIterator[list[int]]:
    async for event in events(exchange.body()):
        ids = read_event(event, "of the benchmark").ids
        if ids:
            yield ids


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def say(words: str) -> None:
    """Progress."""
    print(f"bench: {words}", file=sys.stderr, flush=True)


async def measure(bench: Bench, ways: list[Way]) -> dict[str, Any]:
    """All rows (`ways` begins with blocking); the first requests of each kind warm up and do not count.

    Rows take turns, so that a machine that grows slower or faster meanwhile treats them alike.
    """
    sizes = bench.sizes
    found: dict[str, Any] = defaultdict(list)

    def keep(name: str, readers: list[Read]) -> None:
        found[name].extend(read.ttft for read in readers)
        found[f"{name}_upstream"].append(readers[0].upstream)
        found[f"{name}_speculation"].extend(read.speculation.to_json() for read in readers)

    for turn in range(-WARM_UP, sizes.repeats):
        cold, short = await bench.cold(sizes.prompt), [await bench.cold(sizes.short) for _ in range(3)]
        read = {way: await bench.readers(1, way) for way in ways}
        if turn >= 0:
            found["cold"].append(cold)
            found["short"].extend(short)
            for way in ways:
                keep(way, read[way])
            say(f"turn {turn + 1} of {sizes.repeats}")
    for _ in range(sizes.crowds):
        found["cold_crowd"].extend(await asyncio.gather(*(bench.cold(sizes.prompt) for _ in range(sizes.crowd))))
        for way in ways:
            keep(f"{way}_crowd", await bench.readers(sizes.crowd, way))
        say(f"{sizes.crowd} dependents at once, waited for in every way")
    for seed in range(1, sizes.rounds + 1):
        found["ordinary"] += await bench.traffic_beside(partial(bench.readers, 0, "blocking"), "ordinary", seed)
        for way in ways:
            name = f"{way}_ordinary"
            found[name] += await bench.traffic_beside(partial(bench.readers, 1, way), name, seed)
        say(f"{len(found['ordinary'])} ordinary requests answered in every way")
    return found


def table(found: dict[str, Any], sizes: Sizes, ways: list[Way]) -> str:
    """The rows as text, each beside its baseline of the same run; what was not measured has none."""
    lines = [f"{'time to first token, ms':56} {'median':>8}  ratios within this run"]

    def row(words: str, name: str, *baselines: tuple[str, str]) -> None:
        value = statistics.median(found[name])
        others = [(statistics.median(found[other]), called) for other, called in baselines]
        ratios = "; ".join(f"{value / other:.3f}x of {1e3 * other:.1f} {called}" for other, called in others)
        lines.append(f"{words:56} {1e3 * value:8.1f}  {ratios}")

    cold, short = ("cold", "cold"), ("short", f"for {sizes.short} tokens")
    if found["cold"]:
        row(f"{sizes.short} tokens cold", "short")
        row(f"{sizes.prompt} tokens cold", "cold", short)
        for way in ways:
            row(f"{sizes.prompt} tokens, the last {sizes.answer} an answer: {way}", way, cold, short)
            lines.append(_left(found, way))
    if found["cold_crowd"]:
        row(f"{sizes.crowd} at once, cold", "cold_crowd")
        for way in ways:
            row(f"{sizes.crowd} at once, {way}", f"{way}_crowd", ("cold_crowd", "cold at once"))
    if found["ordinary"]:
        row(f"ordinary, {sizes.ordinary} tokens, {sizes.per_second:g}/s, beside an upstream", "ordinary")
        lines.append(_tails(found["ordinary"]))
        without = ("ordinary", "without")
        for way in ways:
            name = f"{way}_ordinary"
            row(f"the same with a dependent, {way}", name, without)
            lines.append(_tails(found[name], found["ordinary"]))
    return "\n".join(lines)


def _left(found: dict[str, Any], way: Way) -> str:
    tail = statistics.median(told["tail"] for told in found[f"{way}_speculation"])
    upstream, alone = (statistics.median(found[f"{each}_upstream"]) for each in (way, "blocking"))
    return (
        f"  tokens left after the upstream's last one: {tail:g}; it decoded for {upstream:.2f} s, "
        f"{upstream / alone:.3f}x of blocking"
    )


def _tails(values: list[float], baseline: list[float] | None = None) -> str:
    told = []
    for share in (0.9, 0.95, 0.99):
        value = percentile(values, share)
        ratio = f" ({value / percentile(baseline, share):.3f}x)" if baseline else ""
        told.append(f"p{100 * share:g} {1e3 * value:.1f}{ratio}")
    return f"  {', '.join(told)} of {len(values)} requests; mean {1e3 * statistics.mean(values):.1f}"


def waits(log: Path, ways: Iterable[str]) -> dict[str, list[dict[str, float]]]:
    """What a prefill server logged of each way's ordinary requests, in milliseconds by the log's own names.

    `bootstrap_duration` is the handshake, `queue_duration` what came before, `forward_duration` its own prefill and
    transfer.
    """
    line = re.compile(r"ReqTimeStats\(rid=(\w+)-\d+-\d+-.*?\): (.*)")
    told: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for found in line.finditer(log.read_text()):
        if found[1] in told:
            told[found[1]].append({name: float(ms) for name, ms in re.findall(r"(\w+_duration)=([\d.]+)ms", found[2])})
    return told


def waits_table(told: dict[str, list[dict[str, float]]]) -> str:
    """Median, p95 and p99 of each wait."""
    lines = [f"{'of ordinary requests on the prefill server, ms':56} {'median':>8} {'p95':>8} {'p99':>8}"]
    for way, each in told.items():
        for name in each[0] if each else ():
            values = [wait[name] for wait in each if name in wait]
            shares = (percentile(values, share) for share in (0.5, 0.95, 0.99))
            lines.append(f"{way + ', ' + name:56} " + " ".join(f"{value:8.1f}" for value in shares))
    return "\n".join(lines)


async def pair_behind(router: str, model: str | None) -> Registry:
    """A prefill and a decode server that a router knows, asked directly from here on."""
    origin = Origin(router)
    async with await origin.request("GET", "/workers") as response:
        told = json.loads(await response.read())["workers"]
    origin.close()
    chosen = []
    roles: tuple[Role, ...] = ("prefill", "decode")
    for role in roles:
        found = [w for w in told if w["role"] == role and w["healthy"] and model in (None, w["model"])]
        if not found:
            raise NoWorker(f"{router} has no healthy {role} server of {model or 'any model'}.")
        model = found[0]["model"]
        chosen.append(Worker(found[0]["url"], role, found[0]["bootstrap_port"]))
    registry = Registry(chosen)
    await registry.probe()
    for role in roles:
        registry.healthy(str(model), role)
    return registry


def parser_of(words: str) -> argparse.ArgumentParser:
    """The options of every command that measures a running pair."""
    parser = argparse.ArgumentParser(description=words)
    parser.add_argument("--router", metavar="URL", required=True, help="whose workers are measured")
    parser.add_argument("--model", help="one of several that the router serves")
    parser.add_argument("--machine", default="not told", help="what it runs on, for the record")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    return parser


def setting(options: argparse.Namespace, command: str) -> dict[str, Any]:
    """What a record of such a command begins with."""
    return {
        "machine": options.machine,
        "versions": versions(),
        "command": f"python -m router.splice.{command} {shlex.join(sys.argv[1:])}",
    }


async def run(options: argparse.Namespace) -> int:
    """Measure, print and write."""
    try:
        registry = await pair_behind(options.router, options.model)
    except RouterError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    dispatcher = Dispatcher(registry, POLICIES["random"](), POLICIES["random"]())
    sizes = Sizes(**{key: value for key, value in vars(options).items() if key in Sizes.__dataclass_fields__})
    ways: list[Way] = ["blocking", *(way for way in options.ways if way != "blocking")]
    if not all(worker.open_prompts for worker in registry.workers):
        ways = [way for way in ways if way != "overlay"]
    head = {
        **setting(options, "bench"),
        "servers": [worker.info for worker in registry.workers],
        "sizes": vars(sizes),
    }
    try:
        found = await measure(Bench(dispatcher, str(registry.workers[1].model), sizes), ways)
        found["counters"] = {}
        for worker in registry.workers:
            await worker.probe()
            found["counters"][worker.role] = worker.open_prompts
    finally:
        await dispatcher.close()
        registry.close()
    print("\n".join(f"{key}: {value}" for key, value in head.items() if key != "servers"))
    print(table(found, sizes, ways))
    if options.prefill_log:
        head["prefill_log"] = waits(options.prefill_log, ("ordinary", *(f"{way}_ordinary" for way in ways)))
        print(waits_table(head["prefill_log"]))
    if options.out:
        options.out.write_text(json.dumps({**head, "seconds": found}, indent=1) + "\n")
    return 0


def main() -> int:
    """The command."""
    parser = parser_of("Time to first token with and without splicing, on a running pair")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS[1:], help="beside blocking")
    parser.add_argument("--prefill-log", type=Path, metavar="FILE", help="the prefill server's log")
    for name, default in vars(Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    raise SystemExit(main())
