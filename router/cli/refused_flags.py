"""Flags of sglang-router that this router refuses, each with the reason."""

import argparse
from collections.abc import Sequence
from typing import Any

_TEXT = "the router passes text on as it is; give it to the SGLang servers"
_STORE = "nothing is stored between requests; there is no /v1/responses or /v1/conversations"
_TLS = "workers are spoken to in plain HTTP; keep them in a private network"
_OWN_TLS = "the router speaks plain HTTP; end TLS in the proxy or ingress before it"
_JWT = "one key guards everything; give it with --api-key"
_MANUAL = "there is no policy `manual`; take cache_aware, which keeps a conversation on its workers"

REFUSED_FLAGS: dict[str, str] = {
    "--bucket-adjust-interval-secs": "there is no policy `bucket`; take power_of_two or cache_aware",
    "--max-idle-secs": _MANUAL,
    "--assignment-mode": _MANUAL,
    "--dp-aware": "ranks of a data-parallel worker are not told apart; SGLang spreads over them",
    "--mini-lb": "there is no second, smaller router; leave the flag out",
    "--worker-startup-timeout-secs": "a worker is looked for until it is removed; leave the flag out",
    "--model-path": _TEXT,
    "--tokenizer-path": _TEXT,
    "--chat-template": _TEXT,
    "--tokenizer-cache-enable-l0": _TEXT,
    "--tokenizer-cache-l0-max-entries": _TEXT,
    "--tokenizer-cache-enable-l1": _TEXT,
    "--tokenizer-cache-l1-max-memory": _TEXT,
    "--reasoning-parser": _TEXT,
    "--tool-call-parser": _TEXT,
    "--mcp-config-path": "the router calls no tools; the client does",
    "--history-backend": _STORE,
    "--oracle-wallet-path": _STORE,
    "--oracle-tns-alias": _STORE,
    "--oracle-connect-descriptor": _STORE,
    "--oracle-username": _STORE,
    "--oracle-password": _STORE,
    "--oracle-pool-min": _STORE,
    "--oracle-pool-max": _STORE,
    "--oracle-pool-timeout-secs": _STORE,
    "--postgres-db-url": _STORE,
    "--postgres-pool-max": _STORE,
    "--redis-url": _STORE,
    "--redis-pool-max": _STORE,
    "--redis-retention-days": _STORE,
    "--client-cert-path": _TLS,
    "--client-key-path": _TLS,
    "--ca-cert-paths": _TLS,
    "--tls-cert-path": _OWN_TLS,
    "--tls-key-path": _OWN_TLS,
    "--control-plane-api-keys": _JWT,
    "--control-plane-audit-enabled": "the access log has every request; leave the flag out",
    "--jwt-issuer": _JWT,
    "--jwt-audience": _JWT,
    "--jwt-jwks-uri": _JWT,
    "--jwt-role-mapping": _JWT,
}


class _Refuse(argparse.Action):
    """Leaves with the reason."""

    def __call__(
        self, parser: argparse.ArgumentParser, given: argparse.Namespace, values: Any, name: str | None = None
    ) -> None:
        assert name is not None
        parser.error(f"{name} is not supported: {REFUSED_FLAGS[name]}.")


def refuse_flags(parser: argparse.ArgumentParser, flags: Sequence[str] = tuple(REFUSED_FLAGS)) -> None:
    """Let the parser refuse sglang-router's other flags by name."""
    for name in flags:
        parser.add_argument(name, nargs="*", action=_Refuse, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
