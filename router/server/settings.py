"""The settings of a router; the command line fills them in."""

from dataclasses import dataclass, field
from pathlib import Path

from router.config.flags import flag
from router.dispatch.retries import RetrySettings
from router.load_balancing import DEFAULT_POLICY, CacheAwareSettings, PolicySettings
from router.moa.settings import RunSettings
from router.observability.tracing.settings import TraceSettings
from router.server.admission import AdmissionSettings
from router.service_discovery.settings import DiscoverySettings
from router.tls.settings import TlsSettings
from router.worker_selection.overload import OverloadSettings
from router.worker_selection.pair_places import PairPlaceSettings
from router.workers.circuit_breaker import CircuitBreakerSettings
from router.workers.data_parallel import DataParallelSettings
from router.workers.health import HealthSettings
from router.workers.kv_event_monitor import KvEventSettings
from router.workers.load_monitor import LoadMonitorSettings
from router.workers.wedge_watch import WedgeSettings


@dataclass(frozen=True)
class ServerSettings:
    """The flags for listening, answering, logging and stopping."""

    host: str = flag("--host", default="0.0.0.0", help_text="address to listen on")  # noqa: S104 - as sglang-router
    port: int = flag("--port", default=30000, minimum=0, maximum=65535, help_text="port to listen on; 0 is a free one")
    workers: int = flag(
        "--workers",
        default=0,
        minimum=0,
        maximum=256,
        help_text="processes on the port; 0: one for each core, at most 2, where the policy is not bucket, manual or "
        "predicted_latency, limits and the breaker have their defaults, and no --trees or --log-dir is given, else one",
    )
    api_key: str | None = flag(
        "--api-key", default=None, help_text="key that clients must send, and that is sent to the workers"
    )
    api_keys_file: Path | None = flag(
        "--api-keys-file",
        default=None,
        value_type=Path,
        help_text="YAML or JSON file of clients' keys, with a name, rights and limits each; no worker gets them",
    )
    cors_origins: tuple[str, ...] = flag(
        "--cors-allowed-origins",
        default=(),
        multiple=True,
        help_text="origins whose web pages may use every path; all, for data",
    )
    request_id_headers: tuple[str, ...] | None = flag(
        "--request-id-headers", default=None, multiple=True, help_text="headers in which clients send a request's id"
    )
    request_timeout_secs: float = flag(
        "--request-timeout-secs",
        default=1800,
        value_type=float,
        exclusive_minimum=0,
        help_text="seconds for one request",
    )
    client_timeout_secs: float = flag(
        "--client-timeout-secs",
        default=60,
        value_type=float,
        exclusive_minimum=0,
        help_text="seconds in which a client must send its request, and for which it may take nothing of its answer",
    )
    keep_alive_secs: int = flag(
        "--keep-alive-secs",
        default=75,
        minimum=1,
        help_text="seconds that a connection may lie idle between two requests of HTTP/1.1; longer than clients and "
        "proxies keep theirs, else they send requests on connections that are being closed",
    )
    sse_keepalive_secs: float = flag(
        "--sse-keepalive-secs",
        default=0,
        value_type=float,
        minimum=0,
        help_text="seconds without an event after which a stream gets a comment, so that no proxy ends it; 0: never",
    )
    max_payload_bytes: int = flag(
        "--max-payload-size", default=512 * 1024 * 1024, minimum=1, help_text="largest body, bytes"
    )
    grace_secs: int = flag(
        "--shutdown-grace-period-secs",
        default=180,
        minimum=0,
        help_text="seconds that requests get to end after SIGTERM",
    )
    prometheus_port: int | None = flag(
        "--prometheus-port",
        default=None,
        value_type=int,
        minimum=1,
        maximum=65535,
        help_text="a port of its own for /metrics too",
    )
    prometheus_host: str = flag(
        "--prometheus-host",
        default="0.0.0.0",  # noqa: S104 - as sglang-router
        help_text="address of that port",
    )
    health_check_port: int | None = flag(
        "--health-check-port",
        default=None,
        value_type=int,
        minimum=1,
        maximum=65535,
        help_text="a port of its own for /liveness, /readiness and /health too, always without TLS",
    )
    duration_buckets: tuple[float, ...] | None = flag(
        "--prometheus-duration-buckets",
        default=None,
        value_type=float,
        multiple=True,
        exclusive_minimum=0,
        help_text="upper bounds of the duration histograms, in seconds",
    )
    log_level: str = flag(
        "--log-level", default="info", choices=("debug", "info", "warn", "warning", "error"), help_text="what is logged"
    )
    log_json: bool = flag(
        "--log-json", default=False, help_text="every line of the log is a JSON object, and not requests' alone"
    )
    log_dir: str | None = flag("--log-dir", default=None, help_text="folder for log files, one a day")
    file_check_secs: float = flag(
        "--file-check-interval-secs",
        default=2,
        value_type=float,
        minimum=0,
        help_text="seconds between looks at the files of --trees and --workers-file, which are taken over when they "
        "change; 0 reads them once",
    )
    redact_text: bool = flag(
        "--redact-text", default=False, help_text="keep no prompts and answers in traces of runs, logs and spans"
    )


@dataclass(frozen=True)
class RouterSettings:
    """All settings of a router.

    Attributes:
        prefill: URLs of prefill servers with their bootstrap ports; a port of None is asked from the server.
        decode: URLs of decode servers.
        plain: URLs of plain servers: any with OpenAI's API.
        policy: Load-balancing policy for roles without their own.
        prefill_policy: Policy for prefill servers, or None.
        decode_policy: Policy for decode servers, or None.
        cache_aware: Parameters of the policy `cache_aware`.
        policies: Parameters of the other policies.
        loads: How often servers are asked for their load.
        kv_events: Whether servers' KV events are followed.
        workers_file: File that names further workers, or None.
        trees: File with trees of agents, a shipped tree's name, or None for the default tree.
        igw: Whether a model must be named as its servers name it, also where there is one model alone.
        server: Listening, answering, logging and stopping.
        health: Health checks and warm-up.
        retries: Retries and their backoff.
        breaker: Circuit breaker.
        limits: Admission limits.
        places: When requests wait for places on pairs.
        overload: Which servers are overloaded.
        wedges: For how long a worker with requests may say nothing.
        runs: Limits on runs of trees, and the embedding model of early exit.
        trace: OpenTelemetry spans.
        tls: Certificates and keys, towards workers and towards clients.
        discovery: Which Kubernetes pods are workers, or None without service discovery.
    """

    prefill: tuple[tuple[str, int | None], ...]
    decode: tuple[str, ...]
    plain: tuple[str, ...] = ()
    policy: str = DEFAULT_POLICY
    prefill_policy: str | None = None
    decode_policy: str | None = None
    cache_aware: CacheAwareSettings = field(default_factory=CacheAwareSettings)
    policies: PolicySettings = field(default_factory=PolicySettings)
    data_parallel: DataParallelSettings = field(default_factory=DataParallelSettings)
    loads: LoadMonitorSettings = field(default_factory=LoadMonitorSettings)
    kv_events: KvEventSettings = field(default_factory=KvEventSettings)
    workers_file: Path | None = None
    trees: Path | None = None
    igw: bool = False
    server: ServerSettings = field(default_factory=ServerSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    retries: RetrySettings = field(default_factory=RetrySettings)
    breaker: CircuitBreakerSettings = field(default_factory=CircuitBreakerSettings)
    limits: AdmissionSettings = field(default_factory=AdmissionSettings)
    places: PairPlaceSettings = field(default_factory=PairPlaceSettings)
    overload: OverloadSettings = field(default_factory=OverloadSettings)
    wedges: WedgeSettings = field(default_factory=WedgeSettings)
    runs: RunSettings = field(default_factory=RunSettings)
    trace: TraceSettings = field(default_factory=TraceSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    discovery: DiscoverySettings | None = None
