"""Loads certificates and keys from PEM files into TLS contexts; what is wrong with a file is said in one sentence."""

import ssl
from pathlib import Path

from router.errors import BadRequest

CERTIFICATE, KEY = "CERTIFICATE-----", "PRIVATE KEY-----"  # how the first line of each ends
REASONS = {
    "KEY_VALUES_MISMATCH": "the key is that of another certificate",
    "KEY_TYPE_MISMATCH": "the key is that of another certificate",
    "CA_MD_TOO_WEAK": "its signature is too weak for this machine's OpenSSL",
    "CA_KEY_TOO_SMALL": "the key of its issuer is too short for this machine's OpenSSL",
    "EE_KEY_TOO_SMALL": "its key is too short for this machine's OpenSSL",
}


def load_authority(context: ssl.SSLContext, flag: str, path: Path) -> None:
    """Trust the certificates of a file. Raises `BadRequest` when it cannot be read or has none."""
    _check(flag, path, CERTIFICATE, "certificate")
    try:
        context.load_verify_locations(cafile=path)
    except OSError as error:  # also `ssl.SSLError`
        raise BadRequest(f"{flag} {path} cannot be used ({_reason(error)}).") from None


def load_identity(context: ssl.SSLContext, cert: tuple[str, Path | None], key: tuple[str, Path | None]) -> bool:
    """Show a certificate to the other side.

    Args:
        context: The context that gets it.
        cert: A flag, and the file that it names, with the certificate and those between it and a trusted one.
        key: A flag, and the file with the certificate's key.

    Returns:
        False where neither is given.

    Raises:
        BadRequest: Only one is given, a file cannot be read or used, or the two do not belong together.
    """
    (cert_flag, cert_path), (key_flag, key_path) = cert, key
    if cert_path is None and key_path is None:
        return False
    if cert_path is None or key_path is None:
        raise BadRequest(f"{cert_flag} and {key_flag} are of use only together; give both.")
    _check(cert_flag, cert_path, CERTIFICATE, "certificate")
    _check(key_flag, key_path, KEY, "private key")
    asked = False

    def no_passphrase() -> str:
        nonlocal asked
        asked = True
        return ""

    try:
        context.load_cert_chain(cert_path, key_path, no_passphrase)  # without it, OpenSSL would ask on the terminal
    except (OSError, ValueError) as error:
        if asked:
            raise BadRequest(f"{key_flag} {key_path} needs a passphrase; give a key without one.") from None
        names = f"{cert_flag} {cert_path} with {key_flag} {key_path}"
        raise BadRequest(f"{names} cannot be used ({_reason(error)}).") from None
    return True


def _check(flag: str, path: Path, line: str, what: str) -> None:
    """Raise `BadRequest` when a file cannot be read or has no such line."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BadRequest(f"{flag} {path} cannot be read ({error.strerror}).") from None
    if line.encode() not in text:
        raise BadRequest(f"{flag} {path} has no {what} in PEM form.")


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    return REASONS.get(reason or "", (reason or str(error)).replace("_", " ").lower())
