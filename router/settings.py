"""The router's settings, as its command line gives them."""

from dataclasses import dataclass, field
from pathlib import Path

from router.exit.judge import BUILTIN
from router.policies import DEFAULT, CacheAwareSettings


@dataclass(frozen=True)
class Settings:
    """What a router is started with.

    Attributes:
        prefill: Addresses of prefill servers with their bootstrap ports.
        decode: Addresses of decode servers.
        plain: Base URLs of plain servers.
        host: Address to listen on.
        port: Port to listen on.
        policy: Policy for both roles, unless the role has its own.
        prefill_policy: Policy for prefill servers, or None.
        decode_policy: Policy for decode servers, or None.
        cache_aware: Parameters of the policy `cache_aware`.
        max_payload_bytes: Largest request body.
        probe_interval: Seconds between health probes of the workers.
        trees: File with Mixture-of-Agents trees or the name of a shipped one, or None for the default tree.
        embedding_model: What early exit embeds answers with (`router.exit.Judge`).
        max_runs: Most runs at once of all clients.
        max_runs_per_client: Most runs at once of one client.
        log_level: Logging level name.
    """

    prefill: tuple[tuple[str, int], ...]
    decode: tuple[str, ...]
    plain: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 30000
    policy: str = DEFAULT
    prefill_policy: str | None = None
    decode_policy: str | None = None
    cache_aware: CacheAwareSettings = field(default_factory=CacheAwareSettings)
    max_payload_bytes: int = 512 * 1024 * 1024
    probe_interval: float = 5.0
    trees: Path | None = None
    embedding_model: str = BUILTIN
    max_runs: int = 256
    max_runs_per_client: int = 64
    log_level: str = "info"
