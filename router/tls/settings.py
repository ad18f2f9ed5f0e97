"""The flags of TLS. Names are those of sglang-router."""

from dataclasses import dataclass
from pathlib import Path

from router.config.flags import flag


@dataclass(frozen=True)
class TlsSettings:
    """Files with certificates and keys, all in PEM form."""

    ca_cert_paths: tuple[Path, ...] = flag(
        "--ca-cert-paths",
        default=(),
        value_type=Path,
        multiple=True,
        help_text="files of certificates that are trusted for https:// workers, beside the system's",
    )
    client_cert_path: Path | None = flag(
        "--client-cert-path",
        default=None,
        value_type=Path,
        help_text="file of the certificate that https:// workers get",
    )
    client_key_path: Path | None = flag(
        "--client-key-path", default=None, value_type=Path, help_text="file of that certificate's key"
    )
    tls_cert_path: Path | None = flag(
        "--tls-cert-path",
        default=None,
        value_type=Path,
        help_text="file of the certificate that clients get: the port then speaks TLS only",
    )
    tls_key_path: Path | None = flag(
        "--tls-key-path", default=None, value_type=Path, help_text="file of that certificate's key"
    )
