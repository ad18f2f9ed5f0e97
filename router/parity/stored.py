"""What sglang-router has, as it was read off a running one."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STORED = Path(__file__).with_name("sglang_router.json")


@dataclass(frozen=True)
class Stored:
    """One version of sglang-router.

    Attributes:
        version: Its version.
        flags: Its flags with their `default` and `choices`.
        paths: Its paths, each a method and a path.
        metrics: Its metrics with the names of their labels.
    """

    version: str
    flags: dict[str, dict[str, Any]]
    paths: list[str]
    metrics: dict[str, list[str]]

    def to_json(self) -> str:
        """For the file."""
        return json.dumps(asdict(self), indent=1) + "\n"


def load() -> Stored:
    """What is stored."""
    return Stored(**json.loads(STORED.read_text()))
