"""Sends dependents, upstreams and ordinary requests to a pair, and measures how long they take."""

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
from router.dispatch.exchange_request import ExchangeRequest
from router.errors import RouterError
from router.http.body import Body
from router.http.sse import parse_events
from router.moa.generate_events import GenerateReader
from router.speculative_prefill.composition import Truncate, compose_prompt, same_tokenizer_ids
from router.speculative_prefill.open_prompt import OpenPrompt
from router.speculative_prefill.pacing import SegmentPacer
from router.speculative_prefill.speculation import SpeculationStats
from router.speculative_prefill.template import PromptTemplate
from router.speculative_prefill.transport import FallbackTransport, transport_for
from router.speculative_prefill.upstream_answer import UpstreamAnswer

Mode = Literal["blocking", "fallback", "overlay"]
MODES: tuple[Mode, ...] = get_args(Mode)
WARM_UP = 2  # turns
LENGTH_JITTER = 0.1  # of an answer's length, up and down


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
class DependentResult:
    """One dependent.

    Attributes:
        ttft: Seconds from its upstream's last token to its own first.
        speculation: What was prefilled ahead.
        upstream: Seconds per token that its upstream decoded.
    """

    ttft: float
    speculation: SpeculationStats
    upstream: float


@dataclass
class Bench:
    """The measurements over one pair. Times are seconds.

    Attributes:
        dispatcher: Sends requests to the pair.
        model: The pair's model.
        sizes: What is measured.
        run: Prefix of the ids of its ordinary requests.
        pacers: For dependents, by mode; blocking ones have none.
    """

    dispatcher: Dispatcher
    model: str
    sizes: Sizes
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    pacers: dict[Mode, SegmentPacer] = field(
        default_factory=lambda: {"fallback": SegmentPacer(), "overlay": SegmentPacer()}
    )

    def random_ids(self, count: int) -> list[int]:
        """Random token ids."""
        return [random.randrange(10, self.sizes.vocabulary) for _ in range(count)]

    async def cold(self, count: int, **extra: Any) -> float:
        """TTFT of an ordinary request with a fresh prompt of `count` tokens."""
        return await self.ttft(None, self.random_ids(count), **extra)

    async def _dependent(self, upstream: UpstreamAnswer, mode: Mode, length: int) -> tuple[float, SpeculationStats]:
        """TTFT, from the upstream's last token on, of a prompt that ends with its answer of `length` tokens."""
        literal = self.random_ids(self.sizes.prompt - length)
        template = PromptTemplate((tuple(literal), tuple(self.random_ids(8))), (upstream.name,))
        pair = self.dispatcher.selector.choose_pair(self.model)
        new_transport = transport_for if mode == "overlay" else lambda _: FallbackTransport()
        async with OpenPrompt(
            self.dispatcher, lambda: pair, self.pacers.get(mode), new_transport=new_transport
        ) as prompt:
            async for part in compose_prompt(template, {upstream.name: upstream}, "declared", same_tokenizer_ids):
                assert not isinstance(part, Truncate)
                prompt.append(part)
            return await self.ttft(prompt, []), prompt.speculation

    def answer_lengths(self, seed: str) -> Iterator[int]:
        """Endless lengths of answers, in tokens. They vary, since with one length the tail would hardly vary either."""
        lengths, answer = random.Random(seed), self.sizes.answer
        while True:
            yield round(answer * lengths.uniform(1 - LENGTH_JITTER, 1 + LENGTH_JITTER))

    async def dependents(self, count: int, mode: Mode, lengths: Iterator[int]) -> list[DependentResult]:
        """`count` dependents in parallel, of one upstream that decodes meanwhile."""
        upstream, length = UpstreamAnswer("upstream"), next(lengths)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._dependent(upstream, mode, length)) for _ in range(count)]
            decoding = group.create_task(self._decode(upstream, length))
        return [DependentResult(*task.result(), decoding.result()) for task in tasks]

    async def ordinary_requests(self, name: str, seed: int) -> list[float]:
        """TTFTs of ordinary requests at random times; their ids begin with `run` and `name`."""
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

    async def ordinary_requests_beside(self, work: Callable[[], Awaitable[Any]], name: str, seed: int) -> list[float]:
        """TTFTs of ordinary requests while `work` is repeated."""

        async def repeat() -> None:
            while True:
                await work()

        repeating = asyncio.create_task(repeat())
        try:
            ttfts = await self.ordinary_requests(name, seed)
            if repeating.done():
                raise RouterError("what ordinary requests were measured beside ended early.") from repeating.exception()
            return ttfts
        finally:
            repeating.cancel()
            await asyncio.gather(repeating, return_exceptions=True)

    async def _decode(self, answer: UpstreamAnswer, length: int) -> float:
        """Decode an answer of `length` tokens on the pair; returns the seconds per token after the first."""
        body = {"input_ids": self.random_ids(self.sizes.short), "stream": True}
        sampling = {"max_new_tokens": length, "ignore_eos": True, "temperature": 0.0}
        pair = self.dispatcher.selector.choose_pair(self.model)
        request = ExchangeRequest("/generate", Body({**body, "sampling_params": sampling}))
        async with self.dispatcher.exchange(pair, request) as exchange:
            started = None
            async for ids in _token_ids(exchange):
                started = started or time.monotonic()
                answer.update(ids)
        answer.finish()
        return (time.monotonic() - (started or time.monotonic())) / (length - 1)

    async def ttft(self, prompt: OpenPrompt | None, ids: list[int], **extra: Any) -> float:
        """Seconds to the first token: of an open prompt, or of a prompt of `ids`."""
        started = time.monotonic()
        first = None
        sampling = {"max_new_tokens": 4, "ignore_eos": True, "temperature": 0.0}
        body = {"stream": True, "sampling_params": sampling, **extra}
        if prompt is None:
            pair = self.dispatcher.selector.choose_pair(self.model)
            sent: AbstractAsyncContextManager[Exchange] = self.dispatcher.exchange(
                pair, ExchangeRequest("/generate", Body({**body, "input_ids": ids}))
            )
        else:
            sent = prompt.finish(body)
        async with sent as exchange:
            async for _ in _token_ids(exchange):
                first = first or time.monotonic()
        if first is None:
            raise RouterError("the pair answered without a token.")
        return first - started


async def _token_ids(exchange: Exchange) -> AsyncIterator[list[int]]:
    reader = GenerateReader("of the benchmark")
    async for event in parse_events(exchange.body()):
        ids = reader.read(event).ids
        if ids:
            yield ids


def print_progress(text: str) -> None:
    """Print progress to stderr."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


async def measure(bench: Bench, modes: list[Mode], beside_modes: list[Mode]) -> dict[str, Any]:
    """Measure everything, in seconds, by the names that the record has. The first turns warm up and do not count.

    Modes take turns, so that a machine that grows slower or faster meanwhile treats them alike.

    Args:
        bench: The pair, and the sizes.
        modes: Of dependents; blocking first.
        beside_modes: Of dependents beside which ordinary requests are measured, besides an upstream without any.
    """
    sizes = bench.sizes
    seconds: dict[str, Any] = defaultdict(list)

    def keep(name: str, results: list[DependentResult]) -> None:
        seconds[name].extend(result.ttft for result in results)
        seconds[f"{name}_upstream"].append(results[0].upstream)
        seconds[f"{name}_speculation"].extend(result.speculation.to_json() for result in results)

    for turn in range(-WARM_UP, sizes.repeats):
        cold, short = await bench.cold(sizes.prompt), [await bench.cold(sizes.short) for _ in range(3)]
        results = {mode: await bench.dependents(1, mode, bench.answer_lengths(f"turn {turn}")) for mode in modes}
        if turn >= 0:
            seconds["cold"].append(cold)
            seconds["short"].extend(short)
            for mode in modes:
                keep(mode, results[mode])
            print_progress(f"turn {turn + 1} of {sizes.repeats}")
    for crowd in range(sizes.crowds):
        seconds["cold_crowd"].extend(await asyncio.gather(*(bench.cold(sizes.prompt) for _ in range(sizes.crowd))))
        for mode in modes:
            lengths = bench.answer_lengths(f"crowd {crowd}")
            keep(f"{mode}_crowd", await bench.dependents(sizes.crowd, mode, lengths))
        print_progress(f"{sizes.crowd} dependents at once, measured in every mode")
    kinds: list[tuple[str, int, Mode]] = [("ordinary", 0, "blocking")]
    kinds += [(f"{mode}_ordinary", 1, mode) for mode in beside_modes]
    for seed in range(1, sizes.rounds + 1):
        first = seed % len(kinds)
        for name, count, mode in kinds[first:] + kinds[:first]:
            work = partial(bench.dependents, count, mode, bench.answer_lengths(f"round {seed}"))
            seconds[name] += await bench.ordinary_requests_beside(work, name, seed)
        print_progress(f"{len(seconds['ordinary'])} ordinary requests answered in every mode")
    return seconds
