"""Made traces of requests, to replay policies on: prompts that share beginnings, and agents whose prompts grow."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from router.load_balancing import PromptPrefix, RoutingContext

WORDS = [f"word{i} " for i in range(5_000)]


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """One request.

    Attributes:
        at: When it comes, in seconds.
        context: What a policy may know of it.
        answer_secs: How long its answer takes once its prompt is prefilled.
    """

    at: float
    context: RoutingContext
    answer_secs: float


def shared_prefix(count: int, rate: float, rng: random.Random) -> Iterator[TracedRequest]:
    """Questions under 32 system prompts of 2,000 to 8,000 characters, some far more frequent than others."""
    systems = [_text(rng, rng.randrange(2_000, 8_000)) for _ in range(32)]
    weights = [1 / rank for rank in range(1, len(systems) + 1)]
    at = 0.0
    for _ in range(count):
        at += rng.expovariate(rate)
        prompt = rng.choices(systems, weights)[0] + _text(rng, rng.randrange(100, 1_000))
        yield TracedRequest(at, RoutingContext(PromptPrefix(prompt), model="m"), rng.expovariate(1.0))


def agents(count: int, rate: float, rng: random.Random) -> Iterator[TracedRequest]:
    """Turns of 48 agents at a time: each has a session's key and a prompt that grows by its answers and by tools'.

    All share one system prompt. A session ends after 4 to 16 turns, and another begins.
    """
    system = _text(rng, 4_000)
    texts: dict[int, str] = {}
    turns: dict[int, int] = {}
    at, begun = 0.0, 0
    for _ in range(count):
        at += rng.expovariate(rate)
        while len(texts) < 48:
            texts[begun], turns[begun] = system, rng.randrange(4, 17)
            begun += 1
        session = rng.choice(list(texts))
        texts[session] += _text(rng, rng.randrange(200, 2_000))
        context = RoutingContext(PromptPrefix(texts[session]), routing_key=b"session %d" % session, model="m")
        yield TracedRequest(at, context, rng.expovariate(1.0))
        turns[session] -= 1
        if not turns[session]:
            del texts[session], turns[session]


TRACES: dict[str, Callable[[int, float, random.Random], Iterator[TracedRequest]]] = {
    "shared prefix": shared_prefix,
    "agents": agents,
}


def _text(rng: random.Random, length: int) -> str:
    return "".join(rng.choices(WORDS, k=length // 4))[:length]
