"""Reads a file of API keys.

keys:
  - {name: team-a, key: TEXT, rights: [data, runs], max_concurrent_requests: 8, requests_per_second: 5}
  - {name: operator, key_sha256: HEX, rights: [admin]}

No error quotes a value of the file but names and rights: the error of a mistyped file must not show a key.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import yaml
from msgspec import Meta, Struct

from router.access.client import Client, Right
from router.config.structs import InvalidValue, read_struct
from router.config.yaml_text import load_yaml
from router.errors import BadRequest

MAX_BYTES = 1 << 20
MAX_KEYS = 10_000
MAX_DEPTH = 20  # levels of lists and mappings in YAML; a right file has four
API_KEY_NAME = "api-key"  # the client of `--api-key`
FIELDS = "name, key or key_sha256, rights, max_concurrent_requests and requests_per_second"

ClientName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]


class KeyEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key: as it is, or as the hexadecimal SHA-256 digest of it."""

    name: ClientName
    key: str | None = None
    key_sha256: str | None = None
    rights: Annotated[tuple[Right, ...], Meta(min_length=1)]
    max_concurrent_requests: Annotated[int, Meta(ge=1)] | None = None
    requests_per_second: Annotated[float, Meta(gt=0, le=1e9)] | None = None

    def __repr__(self) -> str:
        return f"KeyEntry({self.name!r})"


class KeyFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file."""

    keys: Annotated[tuple[KeyEntry, ...], Meta(min_length=1, max_length=MAX_KEYS)]


def is_key(key: str) -> bool:
    """Whether a text can be sent as a key: printable ASCII, without a space at either end."""
    return bool(key) and key.isascii() and key.isprintable() and key == key.strip()


def digest_of(key: str) -> bytes:
    """What is kept of a key."""
    return sha256(key.encode("latin-1")).digest()


def read_key_file(path: Path) -> dict[bytes, Client]:
    """Clients by the digest of their keys, from a YAML or JSON file.

    Raises:
        BadRequest: The file cannot be read or is wrong; one sentence says where.
    """
    source = f"the keys file {path}"
    value = _parse(path, source)
    try:
        entries = read_struct(KeyFile, value).keys
    except InvalidValue as wrong:
        raise BadRequest(f"{source} is wrong at {wrong.path or 'the top'}: {_reason(wrong)}.") from None
    clients: dict[bytes, Client] = {}
    names: set[str] = set()
    for index, entry in enumerate(entries):
        place = f"{source} is wrong at keys.{index} ({entry.name})"
        if entry.name == API_KEY_NAME:
            raise BadRequest(f"{place}: this is the name of --api-key's own client; choose another.")
        if entry.name in names:
            raise BadRequest(f"{place}: another key has that name; names must be unique.")
        digest = _digest(entry, place)
        if digest in clients:
            raise BadRequest(f"{place}: {clients[digest].name} has the same key; give each client its own.")
        names.add(entry.name)
        clients[digest] = Client(
            entry.name, frozenset(entry.rights), entry.max_concurrent_requests, entry.requests_per_second
        )
    return clients


def _parse(path: Path, source: str) -> object:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise BadRequest(f"{source} is over {MAX_BYTES} bytes; give fewer keys.")
        text = raw.decode()
        if path.suffix == ".json":
            return json.loads(text)
        return load_yaml(text, MAX_DEPTH)
    except OSError as error:
        raise BadRequest(f"{source} cannot be read ({error.strerror}).") from None
    except RecursionError:
        raise BadRequest(f"{source} is not valid (it is nested too deeply).") from None
    except json.JSONDecodeError as error:
        raise BadRequest(f"{source} is no valid JSON at line {error.lineno}, column {error.colno}.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise BadRequest(f"{source} is no valid YAML{place}.") from None
    except (ValueError, yaml.YAMLError):
        raise BadRequest(f"{source} is not valid; give YAML, or JSON where its name ends with .json.") from None


def _reason(wrong: InvalidValue) -> str:
    """What is wrong, without the name of an unknown field, which may be a key in the wrong place."""
    return f"a field is unknown; a key has {FIELDS}" if "unknown field" in wrong.reason else wrong.reason


def _digest(entry: KeyEntry, place: str) -> bytes:
    if (entry.key is None) == (entry.key_sha256 is None):
        raise BadRequest(f"{place}: give either key or key_sha256.")
    if entry.key is not None:
        if not is_key(entry.key):
            raise BadRequest(f"{place}: key must be printable ASCII characters, without a space at either end.")
        return digest_of(entry.key)
    text = entry.key_sha256 or ""
    try:
        digest = bytes.fromhex(text) if len(text) == 64 else b""
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise BadRequest(f"{place}: key_sha256 must be 64 hexadecimal digits, as `sha256sum` writes them.")
    if digest == digest_of(""):
        raise BadRequest(f"{place}: key_sha256 is that of an empty key.")
    return digest
