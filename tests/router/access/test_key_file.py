"""Files of API keys: what may stand in them, and one clear sentence for each mistake, which shows no key."""

import json
import logging
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from router.access.client import ALL_RIGHTS, ANYBODY, Client
from router.access.key_file import KeyEntry, digest_of, is_key, read_key_file
from router.access.key_ring import KeyRing
from router.access.start_warnings import log_start_warnings
from router.errors import BadRequest

SECRET = "sk-Geheim-0123"
HEX = sha256(SECRET.encode()).hexdigest()


def entry(name: str | None = "a", **more: Any) -> dict[str, Any]:
    """A key, right but for `more`; a field of None is left out."""
    fields = {"name": name, "key": f"{SECRET}-{name}", "rights": ["data"], **more}
    return {field: value for field, value in fields.items() if value is not None}


def written(tmp_path: Path, text: str, name: str = "keys.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["keys.json", "keys.yaml", "keys"])
def test_a_file(tmp_path: Path, name: str) -> None:
    keys = [
        entry("a", key=SECRET, rights=["data", "runs"], max_concurrent_requests=8, requests_per_second=0.5),
        entry("b.c_d-9", key=None, key_sha256=sha256(b"other").hexdigest().upper(), rights=["admin"]),
    ]
    assert read_key_file(written(tmp_path, json.dumps({"keys": keys}), name)) == {
        digest_of(SECRET): Client("a", frozenset({"data", "runs"}), 8, 0.5),
        digest_of("other"): Client("b.c_d-9", ALL_RIGHTS),
    }


def test_yaml_as_people_write_it(tmp_path: Path) -> None:
    text = f"""
    # our clients
    keys:
      - {{name: a, key: {SECRET}, rights: [runs]}}
      - name: b
        key_sha256: {sha256(b"b").hexdigest()}
        rights: [data]
    """
    assert {client.name for client in read_key_file(written(tmp_path, text)).values()} == {"a", "b"}


TOP = "keys"
MISTAKES: dict[str, tuple[Any, str]] = {
    "unknown right": (
        {TOP: [entry(rights=["data", "all"])]},
        "keys.0.rights.1: expected 'admin' or 'data' or 'runs', got 'all'",
    ),
    "no right": ({TOP: [entry(rights=[])]}, "keys.0.rights: expected `array` of length >= 1"),
    "rights missing": ({TOP: [entry(rights=None)]}, "missing required field `rights`"),
    "name missing": ({TOP: [entry(name=None)]}, "missing required field `name`"),
    "odd name": ({TOP: [entry("a b")]}, "keys.0.name: expected `str` matching regex"),
    "name with a line break": ({TOP: [entry("a\n")]}, "keys.0.name: expected `str` matching regex"),
    "long name": ({TOP: [entry("a" * 65)]}, "keys.0.name: expected `str` matching regex"),
    "name of the flag": ({TOP: [entry("api-key")]}, "keys.0 (api-key): this is the name of --api-key's own client"),
    "name twice": ({TOP: [entry("a"), entry("a", key="x")]}, "keys.1 (a): another key has that name"),
    "key twice": ({TOP: [entry("a"), entry("b", key=f"{SECRET}-a")]}, "keys.1 (b): a has the same key"),
    "key and its digest": (
        {TOP: [entry("a", key=SECRET), entry("b", key=None, key_sha256=HEX)]},
        "keys.1 (b): a has the same key",
    ),
    "empty key": ({TOP: [entry(key="")]}, "keys.0 (a): key must be printable ASCII"),
    "key with a space": ({TOP: [entry(key=f"{SECRET} ")]}, "keys.0 (a): key must be printable ASCII"),
    "key of other letters": ({TOP: [entry(key=f"{SECRET}ä")]}, "keys.0 (a): key must be printable ASCII"),
    "key is a number": ({TOP: [entry(key=5)]}, "keys.0.key: expected `str"),
    "no key": ({TOP: [entry(key=None)]}, "keys.0 (a): give either key or key_sha256"),
    "both keys": ({TOP: [entry(key_sha256=HEX)]}, "keys.0 (a): give either key or key_sha256"),
    "short digest": ({TOP: [entry(key=None, key_sha256=HEX[:-1])]}, "key_sha256 must be 64 hexadecimal digits"),
    "digest with a space": ({TOP: [entry(key=None, key_sha256=HEX[:-2] + "  ")]}, "must be 64 hexadecimal digits"),
    "no digest": ({TOP: [entry(key=None, key_sha256="x" * 64)]}, "key_sha256 must be 64 hexadecimal digits"),
    "digest of nothing": ({TOP: [entry(key=None, key_sha256=sha256().hexdigest())]}, "is that of an empty key"),
    "no requests": ({TOP: [entry(max_concurrent_requests=0)]}, "max_concurrent_requests: expected `int` >= 1"),
    "no rate": ({TOP: [entry(requests_per_second=0)]}, "requests_per_second: expected `float` > 0"),
    "no number": ({TOP: [entry(requests_per_second=float("nan"))]}, "keys.0.requests_per_second: "),
    "unknown field": ({TOP: [{**entry(), SECRET: 1}]}, "keys.0: a field is unknown; a key has name, key or key_sha256"),
    "unknown at the top": ({TOP: [entry()], "x": 1}, "the top: a field is unknown"),
    "keys by name": ({TOP: {SECRET: ["data"]}}, "keys: expected `array`, got `object`"),
    "no keys": ({TOP: []}, "keys: expected `array` of length >= 1"),
    "too many": ({TOP: [entry(f"n{number}") for number in range(10_001)]}, "keys: expected `array` of length <= 10000"),
    "nothing": (None, "the top: expected `object`, got `null`"),
}


@pytest.mark.claim("keys-are-told-nowhere")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_told_in_a_sentence_without_a_key(tmp_path: Path, mistake: str) -> None:
    value, words = MISTAKES[mistake]
    path = written(tmp_path, json.dumps(value), "keys.json")
    with pytest.raises(BadRequest) as refused:
        read_key_file(path)
    told = str(refused.value)
    assert told.startswith(f"the keys file {path} is wrong at ")
    assert words in told
    assert told.endswith(".")
    assert SECRET not in told
    assert HEX[:12] not in told


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("k.yaml", f"keys: [{{name: a, key: {SECRET}".encode(), "is no valid YAML at line "),
        ("k.yaml", f"keys:\n  - !{SECRET} x".encode(), "is no valid YAML at line 2, column 5."),
        ("k.yaml", f"{SECRET}\0".encode(), "is not valid; give YAML"),
        ("k.json", f'{{"keys": {SECRET}'.encode(), "is no valid JSON at line 1, column 10."),
        ("k.yaml", b"\xff\xfe\xfd", "is not valid; give YAML"),
        ("k.json", b"[" * 100_000, "is not valid (it is nested too deeply)."),
        # Unchecked, these would end the process: libyaml's loader has no limit.
        ("k.yaml", b"[" * 100_000, "is not valid (it is nested too deeply)."),
        ("k.yaml", b"{a: " * 50_000, "is not valid (it is nested too deeply)."),
        ("k.yaml", b"[" * 21 + b"]" * 21, "is not valid (it is nested too deeply)."),
        ("k.yaml", b"- " * 100_000, "is not valid (it is nested too deeply)."),
        ("k.yaml", b"#" * ((1 << 20) + 1), "is over 1048576 bytes; give fewer keys."),
    ],
)
def test_what_is_no_such_file(tmp_path: Path, name: str, raw: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(raw)
    with pytest.raises(BadRequest) as refused:
        read_key_file(path)
    assert words in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"cannot be read \(No such file or directory\)\.$"):
        read_key_file(tmp_path / "nowhere")
    with pytest.raises(BadRequest, match=r"cannot be read \(Is a directory\)\.$"):
        read_key_file(tmp_path)


def test_the_key_of_the_flag_is_in_no_file(tmp_path: Path) -> None:
    path = written(tmp_path, json.dumps({"keys": [entry("a", key=SECRET)]}))
    with pytest.raises(BadRequest, match=r"^a in the keys file .* has the key of --api-key\.$"):
        KeyRing.load(SECRET, path)


@pytest.mark.claim("keys-are-kept-as-digests")
def test_what_is_kept_shows_no_key(tmp_path: Path) -> None:
    ring = KeyRing.load(f"{SECRET}-flag", written(tmp_path, json.dumps({"keys": [entry("a", key=SECRET)]})))
    assert repr(ring) == "KeyRing(a, api-key)"
    assert repr(KeyEntry(name="a", key=SECRET, rights=("data",))) == "KeyEntry('a')"
    assert SECRET not in f"{ring} {[*ring.clients]} {vars(ring)}"


def test_admin_has_all_rights() -> None:
    assert Client("x", frozenset({"admin"})).rights == ALL_RIGHTS == ANYBODY.rights
    assert Client("x", frozenset({"runs"})).rights == {"runs"}


@pytest.mark.parametrize(("key", "good"), [("k", True), ("a b", True), ("", False), (" k", False), ("\n", False)])
def test_what_a_key_is(key: str, good: bool) -> None:
    assert is_key(key) is good


# ---- what an operator is warned of


@pytest.mark.claim("open-port-is-said")
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "router.example", "2001:db8::1"])
def test_an_open_port_without_a_key_is_warned_of(host: str, caplog: pytest.LogCaptureFixture) -> None:
    log_start_warnings(host, 30000, None, None)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR, "no log level leaves it out"
    told = record.getMessage()
    assert told.startswith("NO API KEY IS SET: whoever reaches ")
    assert "30000" in told
    assert "--api-keys-file" in told


def test_what_is_guarded_is_not_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path, "x")
    path.chmod(0o600)
    for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost"):
        log_start_warnings(host, 1, None, None)
    log_start_warnings("0.0.0.0", 1, SECRET, None)
    log_start_warnings("0.0.0.0", 1, None, path)
    log_start_warnings("0.0.0.0", 1, None, tmp_path / "nowhere")
    assert caplog.records == []


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660])
def test_a_file_that_others_read_is_warned_of(tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path, SECRET)
    path.chmod(mode)
    log_start_warnings("127.0.0.1", 1, None, path)
    (told,) = caplog.messages
    assert told == f"other users of this machine may read or change the keys file {path}; chmod 600 it."
