"""Files of certificates that cannot be used are refused at the start, in a sentence."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from router.cli.parser import parse
from router.errors import BadRequest
from router.tls.contexts import WorkerTls, client_context
from router.tls.settings import TlsSettings
from tests.router.support.certificates import Files, files


@pytest.fixture(name="given")
def _given(tmp_path: Path) -> Files:
    return files(tmp_path)


def settings(**paths: Any) -> TlsSettings:
    return TlsSettings(**paths)


def refusal(given: TlsSettings) -> str:
    with pytest.raises(BadRequest) as refused:
        _ = client_context(given), WorkerTls(given)
    return str(refused.value)


def test_the_flags(given: Files) -> None:
    arguments = ["--worker-urls", "https://h:1", "--ca-cert-paths", str(given.authority), str(given.cert)]
    arguments += ["--client-cert-path", str(given.cert), "--client-key-path", str(given.key)]
    arguments += ["--tls-cert-path", str(given.cert), "--tls-key-path", str(given.key)]
    both = (given.authority, given.cert)
    assert parse(arguments).tls == TlsSettings(both, given.cert, given.key, given.cert, given.key)


def test_good_files_are_taken(given: Files) -> None:
    context = client_context(given.serving)
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    to_workers = asyncio.run(WorkerTls(given.known).context())
    assert to_workers.minimum_version == ssl.TLSVersion.TLSv1_2
    assert (to_workers.verify_mode, to_workers.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert client_context(given.known) is None


@pytest.mark.parametrize(("cert", "key"), [("client_cert_path", "client_key_path"), ("tls_cert_path", "tls_key_path")])
def test_pairs_that_are_none(cert: str, key: str, given: Files, tmp_path: Path) -> None:
    cert_flag, key_flag = (f"--{name.replace('_', '-')}" for name in (cert, key))
    together = f"{cert_flag} and {key_flag} are of use only together; give both."
    assert refusal(settings(**{cert: given.cert})) == together
    assert refusal(settings(**{key: given.key})) == together

    absent, empty = tmp_path / "absent", tmp_path / "empty"
    empty.write_text("")
    missing = f"{key_flag} {absent} cannot be read (No such file or directory)."
    assert refusal(settings(**{cert: given.cert, key: absent})) == missing
    assert refusal(settings(**{cert: empty, key: given.key})) == f"{cert_flag} {empty} has no certificate in PEM form."
    assert refusal(settings(**{cert: given.cert, key: given.cert})) == (
        f"{key_flag} {given.cert} has no private key in PEM form."
    )

    other = tmp_path / "other.pem"
    trustme.CA().issue_cert("h").private_key_pem.write_to_path(other)
    assert refusal(settings(**{cert: given.cert, key: other})) == (
        f"{cert_flag} {given.cert} with {key_flag} {other} cannot be used (the key is that of another certificate)."
    )

    locked = tmp_path / "locked.pem"
    loaded = load_pem_private_key(given.key.read_bytes(), None)
    secret = BestAvailableEncryption(b"secret")
    locked.write_bytes(loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    assert refusal(settings(**{cert: given.cert, key: locked})) == (
        f"{key_flag} {locked} needs a passphrase; give a key without one."
    )

    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert refusal(settings(**{cert: broken, key: given.key})).startswith(
        f"{cert_flag} {broken} with {key_flag} {given.key} cannot be used ("
    )


def test_authorities_that_are_none(given: Files, tmp_path: Path) -> None:
    assert refusal(TlsSettings(ca_cert_paths=(given.authority, tmp_path))) == (
        f"--ca-cert-paths {tmp_path} cannot be read (Is a directory)."
    )
    assert refusal(TlsSettings(ca_cert_paths=(given.key,))) == (
        f"--ca-cert-paths {given.key} has no certificate in PEM form."
    )
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert refusal(TlsSettings(ca_cert_paths=(broken,))).startswith(f"--ca-cert-paths {broken} cannot be used (")
