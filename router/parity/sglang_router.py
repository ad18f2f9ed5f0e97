"""What sglang-router offers, as read off a running one into `sglang_router.json`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("sglang_router.json")


@dataclass(frozen=True)
class SglangRouter:
    """The public surface of one version of sglang-router.

    Attributes:
        version: The version.
        flags: Its flags, with their `default` and `choices`.
        paths: Its endpoints, each a method and a path.
        metrics: Its metrics, with the names of their labels.
    """

    version: str
    flags: dict[str, dict[str, Any]]
    paths: list[str]
    metrics: dict[str, list[str]]

    def save(self) -> None:
        """Write it into the file."""
        FILE.write_text(json.dumps(asdict(self), indent=1) + "\n")


def load_sglang_router() -> SglangRouter:
    """What the file has."""
    return SglangRouter(**json.loads(FILE.read_text()))
