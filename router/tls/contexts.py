"""The contexts of TLS, with certificates that are read once: towards workers and towards clients.

Where a router has several processes, they share what the first one read: a process that is started again has the same
certificates, and knows the sessions that clients began with the others.
"""

import asyncio
import ssl

from router.tls.pem_files import load_authority, load_identity
from router.tls.settings import TlsSettings


class WorkerTls:
    """How the router speaks TLS with workers: whom it trusts, and the certificate that it has.

    Certificates and host names are always verified, TLS is 1.2 or newer.

    Args:
        settings: The files; they are read at once if there are any. The system's own are read when they are needed.

    Raises:
        BadRequest: A file cannot be used.
    """

    def __init__(self, settings: TlsSettings | None = None) -> None:
        self._settings = settings or TlsSettings()
        self._context: ssl.SSLContext | None = None
        given = self._settings
        if given.ca_cert_paths or given.client_cert_path is not None or given.client_key_path is not None:
            self._context = self._load()

    async def context(self) -> ssl.SSLContext:
        """The context for connections to workers."""
        if self._context is None:
            self._context = await asyncio.to_thread(self._load)  # the system's certificates may take 50 ms
        return self._context

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.hostname_checks_common_name = False
        # A certificate between a server's and its root is trusted as well, as in sglang-router.
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        context.set_alpn_protocols(["http/1.1"])
        for path in self._settings.ca_cert_paths:
            load_authority(context, "--ca-cert-paths", path)
        load_identity(
            context,
            ("--client-cert-path", self._settings.client_cert_path),
            ("--client-key-path", self._settings.client_key_path),
        )
        return context


def client_context(settings: TlsSettings) -> ssl.SSLContext | None:
    """The context for clients' connections; None where they are not encrypted. Raises `BadRequest`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2", "http/1.1"])
    cert, key = ("--tls-cert-path", settings.tls_cert_path), ("--tls-key-path", settings.tls_key_path)
    return context if load_identity(context, cert, key) else None
