"""The mixed load's requests: of every kind one, with a prompt that no other request has."""

import random
from dataclasses import dataclass
from typing import Any

MODEL = "smollm2"
TREE = "small"
LEAVING = 0.12  # share of the requests whose clients leave
ONE_TOKEN = {"max_new_tokens": 1, "temperature": 0, "ignore_eos": True}

PLAIN_KINDS = ("chat", "completions", "generate")
TREE_KINDS = ("tree", "exit")
KINDS = 3 * PLAIN_KINDS + TREE_KINDS  # so often each


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        kind: One of `KINDS`.
        path: Where it goes.
        body: Its JSON.
        tokens: Of its answer; None where the agents of a tree have their own.
        leaves: Seconds after which its client leaves; None when it stays.
    """

    kind: str
    path: str
    body: dict[str, Any]
    tokens: int | None
    leaves: float | None = None

    @property
    def streams(self) -> bool:
        """Whether the answer comes in events."""
        return bool(self.body["stream"])


def draw(chance: random.Random, *, trees: bool) -> Request:
    """A request that chance makes; of a tree only where there are `trees`."""
    kind = chance.choice(KINDS if trees else PLAIN_KINDS)
    stream = chance.random() < 0.5
    leaves = chance.uniform(0.05, 2.0) if chance.random() < LEAVING else None
    text = f"Story {chance.getrandbits(48)}. " + "Tell me more about it. " * chance.randrange(1, 30)
    tokens = chance.randrange(2, 32)
    if kind == "generate":
        sampling = {"max_new_tokens": tokens, "ignore_eos": True}
        body: dict[str, Any] = {"model": MODEL, "text": text, "sampling_params": sampling}
        return Request(kind, "/generate", {**body, "stream": stream}, tokens, leaves)
    if kind == "completions":
        body = {"model": MODEL, "prompt": text, "max_tokens": tokens, "ignore_eos": True}
        return Request(kind, "/v1/completions", {**body, "stream": stream}, tokens, leaves)
    messages = [{"role": "user", "content": text}]
    if kind == "chat":
        body = {"model": MODEL, "messages": messages, "max_tokens": tokens, "ignore_eos": True}
        return Request(kind, "/v1/chat/completions", {**body, "stream": stream}, tokens, leaves)
    moa: dict[str, Any] = {"arm": "exit", "exit": {"rule": "q_threshold", "q_min": 0.0}}
    if kind == "tree":
        moa = {"arm": chance.choice(("tree", "splice"))}
    body = {"model": TREE, "messages": messages, "moa": moa}
    return Request(kind, "/v1/chat/completions", {**body, "stream": stream}, None, leaves)


def small_tree() -> dict[str, Any]:
    """Two clusters of three proposers and who reads them; of each cluster one answer is long enough to be left out."""

    def agent(name: str, tokens: int, *reads: str) -> dict[str, Any]:
        return {"name": name, "model": MODEL, "max_tokens": tokens, "reads": reads, "sampling": {"ignore_eos": True}}

    clusters = [
        {"name": f"c{c}", "agents": [agent(f"p{c}{i}", tokens) for i, tokens in ((1, 4), (2, 6), (3, 24))]}
        for c in (1, 2)
    ]
    end = {"name": "end", "agents": [agent("final", 8, "c1", "c2")]}
    return {"name": TREE, "arm": "exit", "layers": [{"clusters": clusters}, {"clusters": [end]}]}
