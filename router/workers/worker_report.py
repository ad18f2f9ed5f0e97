"""What a server says of itself in `/server_info`, as far as the router uses it."""

from dataclasses import dataclass
from typing import Any

from router.workers.data_parallel import rank_count
from router.workers.kv_event_messages import EventSource, event_source
from router.workers.priority_rule import PriorityRule
from router.workers.server_load import most_running


@dataclass(frozen=True)
class WorkerReport:
    """What a server said at its last probe; empty before the first.

    Attributes:
        sglang: SGLang's version; None for another engine.
        context_length: The longest prompt with its answer, in tokens.
        skip_tokenizer_init: Whether it takes ids alone.
        completion_template: The template that it uses for `/v1/completions`.
        overlay: What this project's overlay says of itself; None where it does not run.
        priority_rule: How it schedules by priority; None where it does not say that it does.
        ranks: Its data-parallel ranks.
        most_running: As many requests as it runs at once, all ranks together; None where it does not say that.
        process: What differs after a restart; None where nothing does.
        kv_event_source: Where it publishes its KV events; None if it does not, a sentence if they cannot be used.
    """

    sglang: Any = None
    context_length: Any = None
    skip_tokenizer_init: Any = None
    completion_template: Any = None
    overlay: Any = None
    priority_rule: PriorityRule | None = None
    ranks: int = 1
    most_running: int | None = None
    process: str | None = None
    kv_event_source: EventSource | str | None = None

    @classmethod
    def read(cls, host: str, server_info: dict[str, Any]) -> "WorkerReport":
        """What the server at this host said."""
        states = server_info.get("internal_states")
        state = states[0] if isinstance(states, list) and states and isinstance(states[0], dict) else {}
        return cls(
            sglang=server_info.get("version"),
            context_length=server_info.get("context_length"),
            skip_tokenizer_init=server_info.get("skip_tokenizer_init"),
            completion_template=server_info.get("completion_template"),
            overlay=state.get("sglang_ext"),
            priority_rule=PriorityRule.read(server_info),
            ranks=rank_count(server_info),
            most_running=most_running(states),
            process=_process_id(server_info, state),
            kv_event_source=event_source(host, server_info),
        )

    @property
    def tokenizer(self) -> str | None:
        """The fingerprint of its tokenizer; None if it has none, or has not the overlay, which tells it."""
        fingerprint = (self.overlay or {}).get("tokenizer")
        return fingerprint if isinstance(fingerprint, str) else None

    @property
    def gpus(self) -> frozenset[str]:
        """The UUIDs of its GPUs; none on a CPU, or where it has not the overlay, which tells them."""
        told = (self.overlay or {}).get("gpus")
        return frozenset(each for each in told if isinstance(each, str)) if isinstance(told, list) else frozenset()

    @property
    def open_prompts(self) -> dict[str, Any] | None:
        """The overlay's report on open prompts; None if the worker does not support them."""
        report = (self.overlay or {}).get("open_prompts")
        return report if isinstance(report, dict) and "ttl" in report else None


def _process_id(server_info: dict[str, Any], state: dict[str, Any]) -> str | None:
    """What differs after a restart: SGLang draws a seed at each start unless it is given one, the overlay says more."""
    overlay = state.get("sglang_ext")
    process = overlay.get("started") if isinstance(overlay, dict) else None
    seed = server_info.get("random_seed")
    return None if process is None and seed is None else f"{process} {seed}"
