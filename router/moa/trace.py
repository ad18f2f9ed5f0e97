"""What is kept of a run: who was asked, how much, and when."""

import time
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class AgentTrace:
    """One agent's call. Times are seconds since the run began; counts are tokens.

    `start` is when its prompt was whole and its request was sent; `speculation` is what was prefilled
    before (`router.splice.open_prompt.Speculation`).
    """

    agent: str
    cluster: str
    layer: int
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    start: float = 0.0
    first_token: float | None = None
    end: float | None = None
    finish_reason: str | None = None
    text: str = ""
    output_ids: list[int] = field(default_factory=list)
    speculation: dict[str, Any] = field(default_factory=dict)


@dataclass
class RunTrace:
    """One question through one tree."""

    tree: str
    arm: str
    order: str
    id: str = field(default_factory=lambda: f"run-{uuid.uuid4().hex}")
    created: float = field(default_factory=time.time)
    agents: list[AgentTrace] = field(default_factory=list)
    _zero: float = field(default_factory=time.monotonic, repr=False)

    def now(self) -> float:
        """Seconds since the run began."""
        return round(time.monotonic() - self._zero, 4)

    def usage(self) -> dict[str, int]:
        """Tokens over all agents, in OpenAI's form."""
        prompt = sum(agent.prompt_tokens for agent in self.agents)
        completion = sum(agent.completion_tokens for agent in self.agents)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def to_json(self) -> dict[str, Any]:
        """The trace as it is answered under `moa`."""
        return {
            "run": self.id,
            "tree": self.tree,
            "arm": self.arm,
            "order": self.order,
            "created": self.created,
            "seconds": self.now(),
            "agents": [asdict(agent) for agent in self.agents],
        }
