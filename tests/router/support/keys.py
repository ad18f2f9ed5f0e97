"""Clients with API keys, for tests: their file, and their requests."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from router.server.settings import ServerSettings


def key_of(name: str) -> str:
    """The key of a client; it looks like nothing else."""
    return f"sk-zzz-{name}-zzz"


def bearer(name: str) -> dict[str, str]:
    """The header of a client's requests."""
    return {"authorization": f"Bearer {key_of(name)}"}


def with_keys(folder: Path, clients: Mapping[str, Iterable[str]], **more: Any) -> ServerSettings:
    """Settings with a file of clients and their rights; `more` are other settings."""
    keys = [{"name": name, "key": key_of(name), "rights": [*rights]} for name, rights in clients.items()]
    return with_entries(folder, *keys, **more)


def with_entries(folder: Path, *keys: dict[str, Any], **more: Any) -> ServerSettings:
    """Settings with a file of these keys."""
    path = folder / "keys.json"
    path.write_text(json.dumps({"keys": keys}))
    return ServerSettings(api_keys_file=path, **more)
