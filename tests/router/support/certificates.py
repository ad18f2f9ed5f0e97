"""Certificates that are made when a test needs them."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import trustme

from router.tls.settings import TlsSettings


@cache
def authority() -> trustme.CA:
    """The one that the tests trust."""
    return trustme.CA()


@cache
def stranger() -> trustme.CA:
    """One that nobody trusts."""
    return trustme.CA()


@cache
def certificate(name: str = "127.0.0.1", *, days: int = 1) -> trustme.LeafCert:
    """A certificate for a host, valid for so many days from now; a negative number is a time ago."""
    now = datetime.now(UTC)
    return authority().issue_cert(name, not_before=now - timedelta(days=9), not_after=now + timedelta(days=days))


def server_tls(leaf: trustme.LeafCert | None = None, *, clients: trustme.CA | None = None) -> ssl.SSLContext:
    """What a server needs; with `clients` it asks for a certificate of that authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    (leaf or certificate()).configure_cert(context)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        clients.configure_trust(context)
    return context


@dataclass(frozen=True)
class Files:
    """Files in a folder: of the trusted authority, and of a certificate and its key."""

    authority: Path
    cert: Path
    key: Path

    @property
    def trusting(self) -> TlsSettings:
        """Trust the authority."""
        return TlsSettings(ca_cert_paths=(self.authority,))

    @property
    def known(self) -> TlsSettings:
        """Trust the authority, and have the certificate towards workers."""
        return TlsSettings((self.authority,), self.cert, self.key)

    @property
    def serving(self) -> TlsSettings:
        """Have the certificate towards clients."""
        return TlsSettings(tls_cert_path=self.cert, tls_key_path=self.key)


def files(folder: Path, leaf: trustme.LeafCert | None = None) -> Files:
    """Write the files."""
    leaf = leaf or certificate()
    paths = Files(folder / "authority.pem", folder / "cert.pem", folder / "key.pem")
    authority().cert_pem.write_to_path(paths.authority)
    paths.cert.write_bytes(b"".join(each.bytes() for each in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(paths.key)
    return paths
