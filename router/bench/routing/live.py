"""Sends a trace, made shorter and slower, through a router to real SGLang servers."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from router.bench.errors import BenchError
from router.bench.routing.figures import Figures
from router.bench.routing.traces import TracedRequest

TIMEOUT = 300.0  # seconds for what hangs
SESSION_HEADER = "x-smg-routing-key"


@dataclass(frozen=True)
class Scale:
    """What becomes of a trace for small servers.

    A prompt keeps every `shorter`-th token, so that prompts which begin alike still do.

    Attributes:
        shorter: By which lengths are divided.
        slower: By which times between requests are multiplied.
    """

    shorter: int = 1
    slower: float = 1.0

    def body(self, request: TracedRequest) -> tuple[bytes, int]:
        """The request as a body of `/generate`, and how many tokens it asks for."""
        tokens = max(2, len(request.answer) // self.shorter)
        sampling = {"max_new_tokens": tokens, "temperature": 0, "ignore_eos": True}
        ids = [ord(token) for token in request.prompt[:: self.shorter]]
        return orjson.dumps({"input_ids": ids, "sampling_params": sampling, "stream": True}), tokens


@dataclass
class _Live:
    """One trace on its way."""

    client: httpx.AsyncClient
    url: str
    trace: Sequence[TracedRequest]
    scale: Scale
    ended: list[asyncio.Event]
    started: float = field(default_factory=time.perf_counter)
    ttfts: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0

    async def send(self, number: int) -> None:
        """Send a request when its time has come, which is after the answers that it waits for."""
        request = self.trace[number]
        for upstream in request.after:
            await self.ended[upstream].wait()
        since = time.perf_counter() if request.after else self.started
        await asyncio.sleep(max(0.0, since + request.delay * self.scale.slower - time.perf_counter()))
        headers = {"content-type": "application/json"}
        if request.key is not None:
            headers[SESSION_HEADER] = request.key.decode()
        body, asked = self.scale.body(request)
        sent, first, last = time.perf_counter(), None, b""
        async with self.client.stream("POST", f"{self.url}/generate", content=body, headers=headers) as response:
            if response.status_code != 200:
                raise BenchError(f"{self.url} answered {response.status_code}: {(await response.aread())[:200]!r}")
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    first = first or time.perf_counter()
                    last = line.removeprefix("data: ").encode()
        if first is None:
            raise BenchError(f"{self.url} sent no token.")
        usage: dict[str, Any] = orjson.loads(last).get("meta_info", {})
        if usage.get("completion_tokens") != asked:
            raise BenchError(f"{self.url} ended an answer early: {last[:200]!r}")
        self.prompt_tokens += usage["prompt_tokens"]
        self.cached_tokens += usage["cached_tokens"]
        self.ttfts.append(first - sent)
        self.latencies.append(time.perf_counter() - sent)
        self.ended[number].set()


async def send_trace(url: str, trace: Sequence[TracedRequest], scale: Scale) -> Figures:
    """Send a trace through the router at `url`.

    Raises:
        BenchError: A request failed, or the router cannot be reached.
    """
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=TIMEOUT, limits=limits, trust_env=False) as client:
        problem: Exception | None = None
        live = _Live(client, url, trace, scale, [asyncio.Event() for _ in trace])
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(len(trace)):
                    group.create_task(live.send(number))
        except* (httpx.HTTPError, BenchError) as errors:
            problem = errors.exceptions[0]
    if problem is not None:
        words = str(problem) if isinstance(problem, BenchError) else f"{url} cannot be reached ({problem!r})."
        raise BenchError(words) from problem
    return Figures.of(live.ttfts, live.latencies, live.cached_tokens / live.prompt_tokens)


async def empty_caches(servers: Sequence[str]) -> None:
    """Have the servers forget all prompts; raises `BenchError` when one does not."""
    async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as client:
        for server in servers:
            try:
                response = await client.post(f"{server}/flush_cache")
            except httpx.HTTPError as error:
                raise BenchError(f"{server} cannot be reached ({error!r}).") from None
            if response.status_code != 200:
                raise BenchError(f"{server} did not empty its cache ({response.status_code}).")
