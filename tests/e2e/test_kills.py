"""kill -9 in the middle of an open prompt: of its client, of the decode server, of the prefill server.

The servers are killed in the middle of an ordinary request too: decode while it streams, prefill before it is done.
One pair under the launcher, which names what died and brings it back within seconds, sooner than its partner
would miss it. The client is the router's own `OpenPrompt`, in this process or, to be killed, in one of its own.

Beside the pair the launcher has a plain server, with which the pair shares a tree, and which is killed too.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from router.errors import RouterError
from router.speculative_prefill.open_prompt import OpenPrompt
from router.speculative_prefill.pacing import SegmentPacer
from router.workers.registry import Registry
from router.workers.worker import Worker
from tests.e2e import mixed
from tests.e2e.launched import Launched
from tests.e2e.open_prompts import counters, some_ids
from tests.e2e.servers import holdings, is_quiet, nothing_leaked, wait_for
from tests.router.support.dispatching import dispatcher_for

MODEL = mixed.PAIR
FINAL = {"stream": True, "sampling_params": {"max_new_tokens": 4, "temperature": 0, "ignore_eos": True}}
CONFIG = mixed.config({"disaggregated": False}, env={"SGLANG_EXT_OPEN_PROMPT_TTL": "6"})
# Holds a prompt open for ever; says so once its first segment is on both servers.
CLIENT = """
import asyncio, sys
from tests.e2e.test_kills import Pair
async def main():
    pair = Pair(sys.argv[1])
    await pair.learn()
    async with pair.prompt() as prompt:
        await pair.speculate(prompt, 200)
        print("open", flush=True)
        await asyncio.sleep(3600)
asyncio.run(main())
"""


class Pair:
    """The pair behind a router, asked directly."""

    def __init__(self, router: str) -> None:
        told = httpx.get(f"{router}/workers", timeout=30).json()["workers"]
        self.prefill, self.decode = (next(w["url"] for w in told if w["role"] == r) for r in ("prefill", "decode"))
        port = next(w["bootstrap_port"] for w in told if w["role"] == "prefill")
        self.registry = Registry([Worker(self.prefill, "prefill", port), Worker(self.decode, "decode")])
        self.dispatcher = dispatcher_for(self.registry)

    async def learn(self) -> None:
        await self.registry.probe()
        assert self.registry.models() == [MODEL]

    def prompt(self) -> OpenPrompt:
        return OpenPrompt(self.dispatcher, lambda: self.dispatcher.selector.choose_pair(MODEL), SegmentPacer())

    async def speculate(self, prompt: OpenPrompt, tokens: int) -> None:
        """Append tokens and wait until they are on both servers."""
        before = prompt.speculation.segments
        prompt.append(some_ids(tokens))
        async with asyncio.timeout(300):
            while prompt.speculation.segments == before:  # noqa: ASYNC110 - its counters are all it tells
                await asyncio.sleep(0.05)

    async def answer(self, prompt: OpenPrompt) -> str:
        """The final request's whole answer; fails when none comes within 120 s."""
        async with asyncio.timeout(120), prompt.finish(FINAL) as exchange:
            return (b"".join([chunk async for chunk in exchange.body()])).decode()

    def quiet(self) -> bool:
        """No request, no pinned page, all KV free or evictable, on both servers."""
        return all(is_quiet(base) and counters(base)["pinned"] == 0 for base in (self.prefill, self.decode))


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """The pair and the plain server; in the end SIGTERM stops them and leaves nothing."""
    folder = tmp_path_factory.mktemp("kills")
    config = folder / "pair.yaml"
    config.write_text(CONFIG)
    launched = Launched(["--config", str(config)], folder)
    with launched.ready(600):
        yield launched
        mixed.check_end(launched)


@pytest.fixture(scope="module")
def router(launched: Launched) -> str:
    return mixed.router_of(launched)


def works(router: str) -> bool:
    """Whether the router answers a request, within a time in which no request may hang."""
    body = {"model": MODEL, "text": "Hello", "sampling_params": {"max_new_tokens": 4}}
    try:
        return httpx.post(f"{router}/generate", json=body, timeout=120).status_code == 200
    except httpx.TimeoutException:
        return False


def test_the_whole_model_knows_what_it_is_asked(router: str) -> None:
    """The common servers have its first layers alone, whose words mean nothing."""
    greedy = {"model": MODEL, "temperature": 0, "max_tokens": 8}
    chat = {**greedy, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    told = httpx.post(f"{router}/v1/chat/completions", json=chat, timeout=120).json()["choices"][0]
    assert "Paris" in told["message"]["content"]
    completion = {**greedy, "prompt": "The capital of France is"}
    told = httpx.post(f"{router}/v1/completions", json=completion, timeout=120).json()["choices"][0]
    assert "Paris" in told["text"]


def test_a_killed_client(router: str) -> None:
    pair = Pair(router)
    arguments = [sys.executable, "-c", CLIENT, router]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as client:
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == "open\n"
            held = [counters(base) for base in (pair.prefill, pair.decode)]
            assert all(told["open"] == 1 and told["pinned"] > 0 for told in held), held
        finally:
            client.kill()
    assert wait_for(pair.quiet)
    assert [counters(base)["open"] for base in (pair.prefill, pair.decode)] == [0, 0]
    assert works(router)


async def ordinary(router: str, role: str) -> tuple[int, str]:
    """A request's status and answer: on decode a long stream, for prefill a long prompt."""
    tokens, words = (700, 10) if role == "decode" else (4, 900)
    body = {
        "model": MODEL,
        "text": "Ordinary " * words,
        "stream": role == "decode",
        "sampling_params": {"max_new_tokens": tokens, "ignore_eos": True},
    }
    async with httpx.AsyncClient(timeout=120) as client:
        answer = await client.post(f"{router}/generate", json=body)
        return answer.status_code, answer.text


async def under_way(router: str, role: str) -> None:
    """Return once an ordinary request is on the role's server, and decode has begun to stream."""

    def busy() -> bool:
        if role == "decode":
            told = {worker["role"]: worker for worker in holdings(router)}
            return bool(told["decode"]["requests"]["running"])
        # Prefill is not asked: it would answer when the prompt is done.
        workers = httpx.get(f"{router}/workers", timeout=30).json()["workers"]
        return any(worker["load"] for worker in workers if worker["role"] == "prefill")

    assert await asyncio.to_thread(wait_for, busy), holdings(router)


@pytest.mark.parametrize("role", ["decode", "prefill"])
def test_a_killed_server(launched: Launched, router: str, role: str) -> None:
    asyncio.run(_kill(launched, router, role))


async def _kill(launched: Launched, router: str, role: str) -> None:
    pair = Pair(router)
    await pair.learn()
    async with pair.prompt() as prompt:
        await pair.speculate(prompt, 200)
        server = launched.listening(pair.prefill if role == "prefill" else pair.decode)
        beside = asyncio.create_task(ordinary(router, role))
        await under_way(router, role)
        os.kill(server, signal.SIGKILL)
        prompt.append(some_ids(100))
        with pytest.raises(RouterError):
            await pair.answer(prompt)
    async with asyncio.timeout(150):
        status, told = await beside
    if role == "decode":  # its client had got the beginning
        assert status == 200
        *_, error, done = [line.removeprefix("data: ") for line in told.splitlines() if line.startswith("data: ")]
        assert "closed the connection before its answer was whole" in error
        assert done == "[DONE]"
    else:  # its client had got nothing, so the request waited for the new process, though not for ever
        assert status == 200 or "was not back within" in told, told
    # The other one recovers while its partner is away.
    other = pair.decode if role == "prefill" else pair.prefill
    recovered = await asyncio.to_thread(wait_for, lambda: is_quiet(other) and counters(other)["pinned"] == 0)
    assert recovered, counters(other)
    launched.wait_for(f"{MODEL}-{role} was killed by signal 9; the last lines of", 120)
    launched.wait_for(f"{MODEL}-{role} is ready again", 600)
    assert await asyncio.to_thread(wait_for, lambda: works(router), 300)
    # A prompt that is opened now lives on both.
    await pair.registry.probe()
    async with pair.prompt() as prompt:
        await pair.speculate(prompt, 200)
        prompt.append(some_ids(10))
        assert '"completion_tokens":4' in await pair.answer(prompt)
        assert prompt.speculation.used == 200
    assert await asyncio.to_thread(wait_for, pair.quiet)
    assert await asyncio.to_thread(nothing_leaked, router), holdings(router)
    await pair.dispatcher.close()
    pair.registry.close()


def test_a_tree_over_the_pair_and_the_plain_server(router: str) -> None:
    mixed.check_tree(router)
    assert nothing_leaked(router), holdings(router)


def test_the_plain_server_is_killed(launched: Launched, router: str) -> None:
    mixed.check_restart(launched, router)
    assert nothing_leaked(router), holdings(router)
