"""The table of hints: every one that is known here, what it does, or why it does nothing.

It is the only place that names them: readers, checks, the README and the tests go by it. Where several hints tell the
same thing, the first in the table counts.
"""

from dataclasses import dataclass
from typing import Any, Literal

Effect = Literal["session", "priority", "length", "none", "refused"]
INT32, UINT32 = 2**31 - 1, 2**32 - 1
TIERS = ("auto", "default", "flex", "scale", "priority")


@dataclass(frozen=True)
class Hint:
    """One hint.

    Attributes:
        name: Where it stands in the body, with a dot for each level; a header's name ends with a colon.
        effect: What it does: the routing key of policies (`session`), the priority that SGLang gets (`priority`), the
            expected length by which servers are chosen (`length`), nothing (`none`), or a 400 (`refused`).
        note: How it is used, or why it is not and what to do instead.
        example: A value that a client may send.
        least: The least value of a whole number; None for one of another kind.
        most: The greatest one.
    """

    name: str
    effect: Effect
    note: str
    example: Any
    least: int | None = None
    most: int | None = None

    @property
    def is_header(self) -> bool:
        """Whether it is a header and not a field of the body."""
        return self.name.endswith(":")

    @property
    def path(self) -> tuple[str, ...]:
        """The names of the fields on the way to it."""
        return tuple(self.name.split("."))


_KEY = "the routing key of `manual`, `consistent_hashing` and `prefix_hash`"
_QUEUE = "requests wait here in the order in which they came"
_TRACE = "it tells who began what; nothing is routed by it"
_TO_SERVER = "policies choose the server; `x-smg-target-worker` names one under `consistent_hashing`"
_NO_EXTRAS = "responses have no `nvext`; `x-request-id` and `/metrics` tell of requests"

HINTS: tuple[Hint, ...] = (
    # Sessions. Headers of `--routing-key-headers` come before all of these.
    Hint("routing_key", "session", f"{_KEY}; SGLang's own field", "s1"),
    Hint("session_id", "session", f"{_KEY}; SGLang's own field", "s1"),
    Hint("prompt_cache_key", "session", f"{_KEY}; OpenAI's field", "s1"),
    Hint("conversation_id", "session", f"{_KEY}; SGLang's own field", "s1"),
    Hint("nvext.session_control.session_id", "session", f"{_KEY}; Dynamo's", "s1"),
    Hint("nvext.agent_context.trajectory_id", "session", f"{_KEY}; Dynamo's, until 1.2", "s1"),
    Hint("nvext.agent_context.session_id", "session", f"{_KEY}; Dynamo's", "s1"),
    Hint("nvext.agent_hints.prefix_id", "session", f"{_KEY}; NeMo Agent Toolkit's", "s1"),
    Hint("nvext.agent_hints.program_id", "session", f"{_KEY}; Dynamo's, of older versions", "s1"),
    Hint("x-dynamo-session-id:", "session", f"{_KEY}; Dynamo's", "s1"),
    Hint("x-claude-code-agent-id:", "session", f"{_KEY}; of Claude Code's subagents", "s1"),
    Hint("x-claude-code-session-id:", "session", f"{_KEY}; Claude Code's", "s1"),
    Hint("session-id:", "session", f"{_KEY}; Codex's", "s1"),
    Hint("x-session-id:", "session", f"{_KEY}; OpenCode's", "s1"),
    # Importance.
    Hint("priority", "priority", "SGLang's and vLLM's own field; servers get it as it is", 5, -INT32, INT32),
    Hint("nvext.agent_hints.priority", "priority", "higher is more important, as in Dynamo", 5, -INT32, INT32),
    Hint(
        "service_tier",
        "priority",
        "`priority` is one step above the server's `--default-priority-value`, `flex` one below; the others are that",
        "priority",
    ),
    # Length.
    Hint("nvext.agent_hints.osl", "length", "tokens that `least_load` and `bucket` expect", 900, 0, UINT32),
    # Taken, without effect.
    Hint("nvext.agent_hints.strict_priority", "none", _QUEUE, 1, 0, UINT32),
    Hint("nvext.agent_hints.latency_sensitivity", "none", f"{_QUEUE}; send `priority`", 2.5),
    Hint(
        "nvext.agent_hints.speculative_prefill",
        "none",
        "what comes next is not guessed; `run` and `agent` say it, and then prompts are prefilled ahead",
        True,
    ),
    Hint("nvext.agent_hints.total_requests", "none", "how long a session lasts changes no choice", 7, 0, UINT32),
    Hint("nvext.agent_hints.iat", "none", "when a session's next request comes changes no choice", 250, 0, UINT32),
    Hint("nvext.agent_context.session_type_id", "none", _TRACE, "research"),
    Hint("nvext.agent_context.parent_trajectory_id", "none", _TRACE, "s0"),
    Hint("nvext.agent_context.parent_session_id", "none", _TRACE, "s0"),
    Hint("nvext.agent_context.trajectory_final", "none", "a session's cache is not freed early", True),
    Hint("nvext.agent_context.session_final", "none", "a session's cache is not freed early", True),
    Hint("nvext.session_control.action", "none", "no sessions are opened on servers; the id alone keeps one", "bind"),
    Hint("nvext.session_control.timeout", "none", "`--max-idle-secs` says it for all sessions", 300, 0, UINT32),
    Hint("nvext.cache_control", "none", "servers evict by their own rule", {"type": "ephemeral", "ttl": "5m"}),
    Hint("prompt_cache_retention", "none", "servers evict by their own rule", "24h"),
    Hint("prediction", "none", "servers do not decode by a given text", {"type": "content", "content": "x"}),
    Hint("x-dynamo-parent-session-id:", "none", _TRACE, "s0"),
    Hint("x-claude-code-parent-agent-id:", "none", _TRACE, "s0"),
    Hint("x-parent-session-id:", "none", _TRACE, "s0"),
    Hint("x-dynamo-session-final:", "none", "a session's cache is not freed early", "true"),
    Hint("x-override-priority:", "none", "SGLang's header is not sent on; send `priority`", "5"),
    Hint("x-override-conversation-id:", "none", "SGLang's header is not sent on; send `conversation_id`", "s1"),
    Hint("x-worker-instance-id:", "none", _TO_SERVER, "1"),
    Hint("x-prefill-instance-id:", "none", _TO_SERVER, "1"),
    # What would change the answer, or is asked to be in it.
    Hint("nvext.greed_sampling", "refused", "send `temperature` 0", True),
    Hint("nvext.use_raw_prompt", "refused", "send the prompt to /v1/completions", True),
    Hint("nvext.token_data", "refused", "send token ids as `prompt`", [1, 2]),
    Hint("nvext.max_thinking_tokens", "refused", "it is a field of /generate", 9),
    Hint("nvext.cache_salt", "refused", "send SGLang's `cache_salt`", "a"),
    Hint("nvext.annotations", "refused", _NO_EXTRAS, ["timing"]),
    Hint("nvext.extra_fields", "refused", _NO_EXTRAS, ["timing"]),
    Hint("nvext.backend_instance_id", "refused", _TO_SERVER, 1),
    Hint("nvext.prefill_worker_id", "refused", _TO_SERVER, 1),
    Hint("nvext.decode_worker_id", "refused", _TO_SERVER, 1),
    Hint("nvext.dp_rank", "refused", _TO_SERVER, 1),
    Hint("nvext.prefill_dp_rank", "refused", _TO_SERVER, 1),
)

SESSION_HEADERS = tuple(hint.name[:-1].encode() for hint in HINTS if hint.is_header and hint.effect == "session")
