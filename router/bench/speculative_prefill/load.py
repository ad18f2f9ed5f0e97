"""Dependents, upstreams and ordinary requests, and how long they take."""

import asyncio
import random
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

from router.dispatch.dispatcher import Dispatcher
from router.dispatch.exchange import Exchange
from router.errors import RouterError
from router.http.body import Body
from router.http.sse import events
from router.moa.answer_events import read_event
from router.speculative_prefill.composition import Truncate, compose_prompt, same_tokenizer_ids
from router.speculative_prefill.open_prompt import OpenPrompt
from router.speculative_prefill.pacing import SegmentPacer
from router.speculative_prefill.speculation import SpeculationStats
from router.speculative_prefill.template import PromptTemplate
from router.speculative_prefill.transport import FallbackTransport, transport_for
from router.speculative_prefill.upstream_answer import UpstreamAnswer

Way = Literal["blocking", "fallback", "overlay"]
WAYS: tuple[Way, ...] = get_args(Way)
WARM_UP = 2  # turns
SPREAD = 0.1  # of an answer's length, either way


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
    """One dependent: TTFT from its upstream's last token on, and how long the upstream decoded for each token."""

    ttft: float
    speculation: SpeculationStats
    upstream: float


@dataclass
class Bench:
    """The measurements over one pair. Times are seconds.

    Attributes:
        run: What the ids of its ordinary requests begin with.
    """

    dispatcher: Dispatcher
    model: str
    sizes: Sizes
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    pacers: dict[Way, SegmentPacer] = field(
        default_factory=lambda: {"fallback": SegmentPacer(), "overlay": SegmentPacer()}
    )

    def ids(self, count: int) -> list[int]:
        """Random token ids."""
        return [random.randrange(10, self.sizes.vocabulary) for _ in range(count)]

    async def cold(self, count: int, **extra: Any) -> float:
        """TTFT of a prompt nobody has seen."""
        return await self.ask(None, self.ids(count), **extra)

    async def dependent(self, upstream: UpstreamAnswer, way: Way, length: int) -> tuple[float, SpeculationStats]:
        """TTFT of a prompt that ends with an upstream's answer of `length` tokens, from that answer's end."""
        literal = self.ids(self.sizes.prompt - length)
        template = PromptTemplate((tuple(literal), tuple(self.ids(8))), (upstream.name,))
        pair = self.dispatcher.choose_pair(self.model)
        carry = transport_for if way == "overlay" else lambda _: FallbackTransport()
        async with OpenPrompt(self.dispatcher, lambda: pair, self.pacers.get(way), new_transport=carry) as prompt:
            async for part in compose_prompt(template, {upstream.name: upstream}, "declared", same_tokenizer_ids):
                assert not isinstance(part, Truncate)
                prompt.append(part)
            return await self.ask(prompt, []), prompt.speculation

    def lengths(self, seed: str) -> Iterator[int]:
        """Lengths of answers, in tokens.

        Segments go out every so many tokens: answers of one length would leave nearly the same tail each time.
        """
        lengths, answer = random.Random(seed), self.sizes.answer
        while True:
            yield round(answer * lengths.uniform(1 - SPREAD, 1 + SPREAD))

    async def readers(self, count: int, way: Way, lengths: Iterator[int]) -> list[Read]:
        """`count` dependents of one upstream that decodes meanwhile."""
        upstream, length = UpstreamAnswer("upstream"), next(lengths)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.dependent(upstream, way, length)) for _ in range(count)]
            decoding = group.create_task(self._decode(upstream, length))
        return [Read(*task.result(), decoding.result()) for task in tasks]

    async def traffic(self, name: str, seed: int) -> list[float]:
        """TTFTs of ordinary requests, whose ids begin with `run` and `name`, at random times."""
        arrivals = random.Random(seed)
        async with asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[float]] = []
            at = time.monotonic()
            end = at + self.sizes.seconds
            while (at := at + arrivals.expovariate(self.sizes.per_second)) < end:
                await asyncio.sleep(at - time.monotonic())
                rid = f"{self.run}-{name}-{seed}-{len(tasks)}"
                tasks.append(group.create_task(self.cold(self.sizes.ordinary, rid=rid)))
        return [task.result() for task in tasks]

    async def traffic_beside(self, work: Callable[[], Awaitable[Any]], name: str, seed: int) -> list[float]:
        """The same, while `work` is done again and again."""

        async def again() -> None:
            while True:
                await work()

        beside = asyncio.create_task(again())
        try:
            found = await self.traffic(name, seed)
            if beside.done():
                raise RouterError("what ordinary requests were measured beside ended early.") from beside.exception()
            return found
        finally:
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)

    async def _decode(self, answer: UpstreamAnswer, length: int) -> float:
        """Let a request write an answer of `length` tokens; returns the seconds for each token after its first."""
        body = {"input_ids": self.ids(self.sizes.short), "stream": True}
        sampling = {"max_new_tokens": length, "ignore_eos": True, "temperature": 0.0}
        pair = self.dispatcher.choose_pair(self.model)
        async with self.dispatcher.exchange("/generate", Body({**body, "sampling_params": sampling}), pair) as exchange:
            began = None
            async for progress in _progress(exchange):
                began = began or time.monotonic()
                answer.update(progress)
        answer.finish()
        return (time.monotonic() - (began or time.monotonic())) / (length - 1)

    async def ask(self, prompt: OpenPrompt | None, ids: list[int], **extra: Any) -> float:
        """Seconds to the first token of a prompt, an open one or one of these ids."""
        began = time.monotonic()
        first = None
        sampling = {"max_new_tokens": 4, "ignore_eos": True, "temperature": 0.0}
        body = {"stream": True, "sampling_params": sampling, **extra}
        if prompt is None:
            pair = self.dispatcher.choose_pair(self.model)
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


def say(words: str) -> None:
    """Progress."""
    print(f"bench: {words}", file=sys.stderr, flush=True)


async def measure(bench: Bench, ways: list[Way], besides: list[Way]) -> dict[str, Any]:
    """All rows (`ways` begins with blocking); the first requests of each kind warm up and do not count.

    Ordinary requests are measured beside dependents of each of the ways `besides`, and beside none.

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
        read = {way: await bench.readers(1, way, bench.lengths(f"turn {turn}")) for way in ways}
        if turn >= 0:
            found["cold"].append(cold)
            found["short"].extend(short)
            for way in ways:
                keep(way, read[way])
            say(f"turn {turn + 1} of {sizes.repeats}")
    for crowd in range(sizes.crowds):
        found["cold_crowd"].extend(await asyncio.gather(*(bench.cold(sizes.prompt) for _ in range(sizes.crowd))))
        for way in ways:
            keep(f"{way}_crowd", await bench.readers(sizes.crowd, way, bench.lengths(f"crowd {crowd}")))
        say(f"{sizes.crowd} dependents at once, waited for in every way")
    beside: list[tuple[str, int, Way]] = [("ordinary", 0, "blocking")]
    beside += [(f"{way}_ordinary", 1, way) for way in besides]
    for seed in range(1, sizes.rounds + 1):
        for name, count, way in beside[seed % len(beside) :] + beside[: seed % len(beside)]:
            work = partial(bench.readers, count, way, bench.lengths(f"round {seed}"))
            found[name] += await bench.traffic_beside(work, name, seed)
        say(f"{len(found['ordinary'])} ordinary requests answered in every way")
    return found
