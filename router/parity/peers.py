"""What the peers offer, sglang-router and smg, as read off running ones into a JSON file each."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

PeerName = Literal["sglang-router", "smg"]
PEERS: tuple[PeerName, ...] = ("sglang-router", "smg")
PACKAGES: dict[PeerName, str] = {"sglang-router": "sglang_router", "smg": "smg"}  # Python's


@dataclass(frozen=True)
class Peer:
    """The public surface of one version of a peer.

    Attributes:
        version: The version.
        flags: Its flags, with their `default` and `choices`; one that has two names stands there twice.
        paths: Its endpoints, each a method and a path; none where they are not recorded.
        metrics: Its metrics, with the names of their labels.
    """

    version: str
    flags: dict[str, dict[str, Any]]
    paths: list[str] = field(default_factory=list)
    metrics: dict[str, list[str]] = field(default_factory=dict)

    def save(self, name: PeerName) -> None:
        """Write it into the peer's file, an entry a line."""
        lines = []
        for key, value in asdict(self).items():
            if isinstance(value, dict):
                entries = ",\n".join(f"  {json.dumps(each)}: {json.dumps(value[each])}" for each in value)
                lines.append(f' "{key}": {{\n{entries}\n }}')
            elif isinstance(value, list) and value:
                lines.append(f' "{key}": [\n' + ",\n".join(f"  {json.dumps(each)}" for each in value) + "\n ]")
            else:
                lines.append(f' "{key}": {json.dumps(value)}')
        _file(name).write_text("{\n" + ",\n".join(lines) + "\n}\n")


def load_peer(name: PeerName) -> Peer:
    """What the peer's file has."""
    return Peer(**json.loads(_file(name).read_text()))


def _file(name: PeerName) -> Path:
    return Path(__file__).with_name(f"{PACKAGES[name]}.json")
