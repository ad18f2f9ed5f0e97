"""Made traces of requests: prompts that share beginnings, and agents that read each other's answers.

Prompts and answers are strings in which each character is a token. Common tokens are far more frequent than others, so
that different questions may begin alike.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

PAGE = 16  # tokens of a page of KV
_VOCABULARY = [chr(token) for token in range(1_000, 6_000)]
_WEIGHTS = [1 / rank for rank in range(1, len(_VOCABULARY) + 1)]
_CUMULATED = [sum(_WEIGHTS[: rank + 1]) for rank in range(len(_WEIGHTS))]


@dataclass(slots=True)
class TracedRequest:
    """One request.

    Attributes:
        prompt: Its tokens.
        answer: The tokens of its answer.
        delay: When it comes: seconds after the beginning, or after the last request that it waits for has ended.
        after: The numbers of the requests, earlier in the trace, that it waits for.
        key: Its session, as a client would send it, or None.
        pages: What identifies each full page of prompt and answer together with all before it.
        prompt_pages: How many of them are in the prompt.
    """

    prompt: str
    answer: str
    delay: float
    after: tuple[int, ...] = ()
    key: bytes | None = None
    pages: list[int] = field(init=False)
    prompt_pages: int = field(init=False)

    def __post_init__(self) -> None:
        text = self.prompt + self.answer
        self.pages, before = [], 0
        for start in range(0, len(text) - PAGE + 1, PAGE):
            before = hash((before, text[start : start + PAGE]))
            self.pages.append(before)
        self.prompt_pages = len(self.prompt) // PAGE


Trace = Callable[[int, float, random.Random], Iterator[TracedRequest]]


def shared_prefixes(count: int, servers: float, rng: random.Random) -> Iterator[TracedRequest]:
    """Questions of 30 to 300 tokens under 32 system prompts of 500 to 4,000, some far more frequent than others."""
    systems = [_text(rng, rng.randrange(500, 4_000)) for _ in range(32)]
    weights = [1 / rank for rank in range(1, len(systems) + 1)]
    at = 0.0
    for _ in range(count):
        at += rng.expovariate(9.0 * servers)
        prompt = rng.choices(systems, weights)[0] + _text(rng, rng.randrange(30, 300))
        yield TracedRequest(prompt, _answer(rng, 150), at)


def one_prefix(count: int, servers: float, rng: random.Random) -> Iterator[TracedRequest]:
    """Questions of 100 to 800 tokens, all under one system prompt of 3,000."""
    system = _text(rng, 3_000)
    at = 0.0
    for _ in range(count):
        at += rng.expovariate(9.0 * servers)
        yield TracedRequest(system + _text(rng, rng.randrange(100, 800)), _answer(rng, 150), at)


def unrelated(count: int, servers: float, rng: random.Random) -> Iterator[TracedRequest]:
    """Prompts that share nothing, most of some hundred tokens and some of more than ten thousand."""
    at = 0.0
    for _ in range(count):
        at += rng.expovariate(6.0 * servers)
        prompt = _text(rng, min(max(int(rng.lognormvariate(6.5, 1.2)), 16), 16_000))
        yield TracedRequest(prompt, _answer(rng, 150), at)


def agents(count: int, servers: float, rng: random.Random) -> Iterator[TracedRequest]:
    """Agents under one system prompt of 2,000 tokens, whose contexts grow by their answers and by tools'.

    Each takes 4 to 16 turns, of which one comes a second or so after the other ended, and has a session's key.
    """
    system = _text(rng, 2_000)
    at, number = 0.0, 0
    for session in range(count):
        at += rng.expovariate(0.55 * servers)
        prompt, delay = system + _text(rng, rng.randrange(100, 500)), at
        after: tuple[int, ...] = ()
        for _ in range(rng.randrange(4, 17)):
            if number == count:
                return
            request = TracedRequest(prompt, _answer(rng, 120), delay, after, b"session %d" % session)
            yield request
            prompt += request.answer + _text(rng, rng.randrange(50, 1_500))
            after, delay = (number,), rng.expovariate(1.0)
            number += 1


def trees(count: int, servers: float, rng: random.Random) -> Iterator[TracedRequest]:
    """Runs of a tree of agents: nine proposers, three aggregators that read three answers each, and a final agent.

    Each role has a system prompt of its own; a question of 100 to 3,000 tokens follows, and then the answers.
    """
    proposer, aggregator, final = (_text(rng, length) for length in (700, 900, 900))
    at, number = 0.0, 0
    for run in range(count):
        at += rng.expovariate(0.5 * servers)
        question, key = _text(rng, rng.randrange(100, 3_000)), b"run %d" % run
        layer = [TracedRequest(proposer + question, _answer(rng, 250), at, key=key) for _ in range(9)]
        for readers, system in ((3, aggregator), (1, final)):
            if number + len(layer) > count:
                return
            yield from layer
            first, width = number, len(layer) // readers
            number += len(layer)
            layer = [
                TracedRequest(
                    system + question + "".join(each.answer for each in layer[reader * width : (reader + 1) * width]),
                    _answer(rng, 250),
                    0.0,
                    tuple(range(first + reader * width, first + (reader + 1) * width)),
                    key,
                )
                for reader in range(readers)
            ]
        if number == count:
            return
        yield from layer
        number += 1


TRACES: dict[str, Trace] = {
    "shared prefixes": shared_prefixes,
    "one prefix": one_prefix,
    "unrelated": unrelated,
    "agents": agents,
    "trees": trees,
}


def _text(rng: random.Random, length: int) -> str:
    return "".join(rng.choices(_VOCABULARY, cum_weights=_CUMULATED, k=length))


def _answer(rng: random.Random, mean: int) -> str:
    """An answer whose length is drawn, at least two tokens."""
    return _text(rng, min(2 + int(rng.expovariate(1 / mean)), 8 * mean))
