"""What failed in TLS with a worker, in a few words that tell an operator what to do."""

import ssl

_ADVICE = {
    # By OpenSSL's number of what is wrong with a certificate.
    18: "it is self-signed; if it is right, name it in --ca-cert-paths",
    19: "its issuer is not trusted; if it is right, name it in --ca-cert-paths",
    20: "its issuer is not trusted; if it is right, name it in --ca-cert-paths",
    21: "its issuer is not trusted; if it is right, name it in --ca-cert-paths",
}
_REASONS = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS; is its address http://?",
    "UNSUPPORTED_PROTOCOL": "it speaks no TLS 1.2 or newer",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it speaks no TLS 1.2 or newer",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a certificate; give --client-cert-path and --client-key-path",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust the issuer of --client-cert-path",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept the certificate of --client-cert-path",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the certificate of --client-cert-path has expired",
}
# As a clause about the worker. Servers in Python close the connection without telling why.
CLOSED_WHEN_NEW = "closed a new TLS connection, perhaps for want of a certificate that it trusts (--client-cert-path),"


def tls_failure(error: ssl.SSLError) -> str:
    """Why TLS failed, as a clause about the worker."""
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = _ADVICE.get(error.verify_code)
        return f"its certificate is not accepted: {advice or error.verify_message.rstrip('.')}"
    reason = error.reason or str(error)
    return _REASONS.get(reason, f"TLS failed: {reason.replace('_', ' ').lower()}")
