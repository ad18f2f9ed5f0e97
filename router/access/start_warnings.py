"""What an operator is told when the router starts: a port is open to everybody, others may read the file of keys."""

import ipaddress
import logging
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger(__name__)


def log_start_warnings(host: str, port: int, api_key: str | None, keys_file: Path | None) -> None:
    """Log one line for each thing that an operator should change."""
    if api_key is None and keys_file is None and not _is_loopback(host):
        logger.error(  # so that `--log-level error` shows it too
            "NO API KEY IS SET: whoever reaches %s:%d may use the models, read the prompts and answers of all runs, "
            "add and remove workers and empty their caches; set --api-key or --api-keys-file, or listen on "
            "--host 127.0.0.1.",
            host or "any address, port",
            port,
        )
    if keys_file is not None:
        with suppress(OSError):  # the router says so itself when it reads the file
            if keys_file.stat().st_mode & 0o077:
                logger.warning(
                    "other users of this machine may read or change the keys file %s; chmod 600 it.", keys_file
                )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
