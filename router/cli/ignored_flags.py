"""Flags of sglang-router and smg that are accepted and do nothing in this router, each with the reason."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class IgnoredFlag:
    """A flag that is parsed and never read.

    Attributes:
        reason: Why it does nothing, as a clause; it is also the flag's help.
        arguments: Arguments of `ArgumentParser.add_argument`.
    """

    reason: str
    arguments: dict[str, Any]


_NO_JOBS = "workers are added and removed at once, without a queue"
_WORKERS_STAY = "an unhealthy worker gets no requests, stays, and is used again once it is well"

IGNORED_FLAGS: dict[str, IgnoredFlag] = {
    "--backend": IgnoredFlag("the servers say what they are", {"choices": ["sglang", "vllm"], "default": "sglang"}),
    "--model-path": IgnoredFlag("the servers say which models they have", {"metavar": "PATH"}),
    "--model": IgnoredFlag("the servers say which models they have", {"metavar": "NAME"}),
    "--tokenizer-path": IgnoredFlag("the servers tokenize", {"metavar": "PATH"}),
    "--disable-tokenizer-autoload": IgnoredFlag("the servers tokenize", {"action": "store_true"}),
    "--disable-load-monitoring": IgnoredFlag(
        "servers are asked for their load only where a policy uses it", {"action": "store_true"}
    ),
    "--disable-worker-overload-protection": IgnoredFlag(
        "without --worker-overload-protection no worker is left out for its load", {"action": "store_true"}
    ),
    "--selection-policy": IgnoredFlag("there is one way for cache_aware to choose", {"metavar": "NAME"}),
    "--worker-startup-delay": IgnoredFlag(
        "a worker that is not there yet is looked for until it is", {"type": float, "metavar": "SECONDS"}
    ),
    "--job-queue-capacity": IgnoredFlag(_NO_JOBS, {"type": int, "metavar": "JOBS"}),
    "--job-queue-concurrency": IgnoredFlag(_NO_JOBS, {"type": int, "metavar": "JOBS"}),
    "--remove-unhealthy-workers": IgnoredFlag(_WORKERS_STAY, {"action": "store_true"}),
    "--no-remove-unhealthy-workers": IgnoredFlag(_WORKERS_STAY, {"action": "store_true"}),
    "--worker-auto-recovery": IgnoredFlag(_WORKERS_STAY, {"action": "store_true"}),
    "--no-worker-auto-recovery": IgnoredFlag(_WORKERS_STAY, {"action": "store_true"}),
}


class _Parser(Protocol):
    """A parser, or a group of it."""

    def add_argument(self, *names: str, **arguments: Any) -> Any:
        """As `argparse` has it."""


def add_ignored_flags(parser: _Parser) -> None:
    """Let a parser, or a group of its flags, accept the ignored flags."""
    for name, flag in IGNORED_FLAGS.items():
        parser.add_argument(name, help=f"accepted, but does nothing: {flag.reason}", **flag.arguments)
