"""Flags of sglang-router that this router refuses, each with the reason."""

import argparse
from typing import Any

_NO_TOKENIZER = "the router passes text on as it is; give it to the SGLang servers"
_NO_STORAGE = "nothing is stored between requests; there is no /v1/responses or /v1/conversations"
_KEYS_FILE = "keys with a name, rights and limits each are in a file; give it with --api-keys-file"

REFUSED_FLAGS: dict[str, str] = {
    "--dp-aware": "ranks of a data-parallel worker are not told apart; SGLang spreads over them",
    "--mini-lb": "there is no second, smaller router; leave the flag out",
    "--worker-startup-timeout-secs": "a worker is looked for until it is removed; leave the flag out",
    "--chat-template": _NO_TOKENIZER,
    "--tokenizer-cache-enable-l0": _NO_TOKENIZER,
    "--tokenizer-cache-l0-max-entries": _NO_TOKENIZER,
    "--tokenizer-cache-enable-l1": _NO_TOKENIZER,
    "--tokenizer-cache-l1-max-memory": _NO_TOKENIZER,
    "--reasoning-parser": _NO_TOKENIZER,
    "--tool-call-parser": _NO_TOKENIZER,
    "--mcp-config-path": "the router calls no tools; the client does",
    "--history-backend": _NO_STORAGE,
    "--oracle-wallet-path": _NO_STORAGE,
    "--oracle-tns-alias": _NO_STORAGE,
    "--oracle-connect-descriptor": _NO_STORAGE,
    "--oracle-username": _NO_STORAGE,
    "--oracle-password": _NO_STORAGE,
    "--oracle-pool-min": _NO_STORAGE,
    "--oracle-pool-max": _NO_STORAGE,
    "--oracle-pool-timeout-secs": _NO_STORAGE,
    "--postgres-db-url": _NO_STORAGE,
    "--postgres-pool-max": _NO_STORAGE,
    "--redis-url": _NO_STORAGE,
    "--redis-pool-max": _NO_STORAGE,
    "--redis-retention-days": _NO_STORAGE,
    "--control-plane-api-keys": _KEYS_FILE,
    "--control-plane-audit-enabled": "the access log has every request; leave the flag out",
    "--jwt-issuer": _KEYS_FILE,
    "--jwt-audience": _KEYS_FILE,
    "--jwt-jwks-uri": _KEYS_FILE,
    "--jwt-role-mapping": _KEYS_FILE,
}


class _RefuseFlag(argparse.Action):
    """Exits with the reason."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, name: str | None = None
    ) -> None:
        assert name is not None
        parser.error(f"{name} is not supported: {REFUSED_FLAGS[name]}.")


def add_refused_flags(parser: argparse.ArgumentParser) -> None:
    """Let a parser refuse these flags by name."""
    for name in REFUSED_FLAGS:
        parser.add_argument(name, nargs="*", action=_RefuseFlag, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
