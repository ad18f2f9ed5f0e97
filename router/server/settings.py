"""The router's settings, as its command line gives them."""

from dataclasses import dataclass, field
from pathlib import Path

from router.config.flags import flag
from router.dispatch.retries import RetrySettings
from router.load_balancing import DEFAULT_POLICY, CacheAwareSettings
from router.moa.settings import RunSettings
from router.observability.tracing.settings import TraceSettings
from router.server.admission import AdmissionSettings
from router.service_discovery.settings import DiscoverySettings
from router.workers.circuit_breaker import CircuitBreakerSettings
from router.workers.health import HealthSettings


@dataclass(frozen=True)
class ServerSettings:
    """How the router listens, answers, logs and stops."""

    host: str = flag("--host", default="0.0.0.0", words="address to listen on")  # noqa: S104 - as sglang-router
    port: int = flag("--port", default=30000, least=0, most=65535, words="port to listen on; 0 is a free one")
    workers: int = flag("--workers", default=1, least=1, most=256, words="processes on the port")
    api_key: str | None = flag(
        "--api-key", default=None, words="key that clients must send, and that is sent to the workers"
    )
    cors_origins: tuple[str, ...] = flag(
        "--cors-allowed-origins", default=(), many=True, words="origins whose web pages may read the answers; all"
    )
    request_id_headers: tuple[str, ...] | None = flag(
        "--request-id-headers", default=None, many=True, words="headers in which clients send a request's id"
    )
    request_timeout_secs: float = flag(
        "--request-timeout-secs", default=1800, kind=float, above=0, words="seconds for one request"
    )
    client_timeout_secs: float = flag(
        "--client-timeout-secs",
        default=60,
        kind=float,
        above=0,
        words="seconds in which a client must send its request, and for which it may take nothing of its answer",
    )
    max_payload_bytes: int = flag("--max-payload-size", default=512 * 1024 * 1024, least=1, words="largest body, bytes")
    grace_secs: int = flag(
        "--shutdown-grace-period-secs", default=180, least=0, words="seconds that requests get to end after SIGTERM"
    )
    prometheus_port: int | None = flag(
        "--prometheus-port", default=None, kind=int, least=1, most=65535, words="a port of its own for /metrics too"
    )
    prometheus_host: str = flag(
        "--prometheus-host",
        default="0.0.0.0",  # noqa: S104 - as sglang-router
        words="address of that port",
    )
    duration_buckets: tuple[float, ...] | None = flag(
        "--prometheus-duration-buckets",
        default=None,
        kind=float,
        many=True,
        above=0,
        words="upper bounds of the duration histograms, in seconds",
    )
    log_level: str = flag(
        "--log-level", default="info", choices=("debug", "info", "warn", "warning", "error"), words="what is logged"
    )
    log_dir: str | None = flag("--log-dir", default=None, words="folder for log files, one a day")


@dataclass(frozen=True)
class RouterSettings:
    """What a router is started with.

    Attributes:
        prefill: Addresses of prefill servers with their bootstrap ports; None is to be asked from the server.
        decode: Addresses of decode servers.
        plain: Addresses of plain servers, which any OpenAI-compatible server is.
        policy: Policy for both roles, unless the role has its own.
        prefill_policy: Policy for prefill servers, or None.
        decode_policy: Policy for decode servers, or None.
        cache_aware: Parameters of the policy `cache_aware`.
        trees: File with Mixture-of-Agents trees or a shipped one's name, or None for the default tree.
        server: How it listens, answers, logs and stops.
        health: When a worker gets requests.
        retries: How often a request is tried.
        breaker: When a failing worker gets none.
        limits: How many requests are let in.
        runs: How many runs of trees are let in, and what judges their answers.
        trace: Whether spans are sent, and where to.
        discovery: Which Kubernetes pods are workers too, or None.
    """

    prefill: tuple[tuple[str, int | None], ...]
    decode: tuple[str, ...]
    plain: tuple[str, ...] = ()
    policy: str = DEFAULT_POLICY
    prefill_policy: str | None = None
    decode_policy: str | None = None
    cache_aware: CacheAwareSettings = field(default_factory=CacheAwareSettings)
    trees: Path | None = None
    server: ServerSettings = field(default_factory=ServerSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    retries: RetrySettings = field(default_factory=RetrySettings)
    breaker: CircuitBreakerSettings = field(default_factory=CircuitBreakerSettings)
    limits: AdmissionSettings = field(default_factory=AdmissionSettings)
    runs: RunSettings = field(default_factory=RunSettings)
    trace: TraceSettings = field(default_factory=TraceSettings)
    discovery: DiscoverySettings | None = None
