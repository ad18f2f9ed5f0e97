"""Flags of sglang-router that are accepted and do nothing in this router, each with the reason."""

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


IGNORED_FLAGS: dict[str, IgnoredFlag] = {
    "--backend": IgnoredFlag("sglang is the only backend", {"choices": ["sglang"], "default": "sglang"}),
    "--model-path": IgnoredFlag("the servers say which models they have", {"metavar": "PATH"}),
    "--tokenizer-path": IgnoredFlag("the servers tokenize", {"metavar": "PATH"}),
}


class _Parser(Protocol):
    """A parser, or a group of it."""

    def add_argument(self, *names: str, **arguments: Any) -> Any:
        """As `argparse` has it."""


def add_ignored_flags(parser: _Parser) -> None:
    """Let a parser, or a group of its flags, accept the ignored flags."""
    for name, flag in IGNORED_FLAGS.items():
        parser.add_argument(name, help=f"accepted, but does nothing: {flag.reason}", **flag.arguments)
