"""Settings of service discovery: which pods are workers, timeouts and backoff."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from router.dispatch.retries import RetrySettings
from router.service_discovery.labels import Labels
from router.workers.worker import Role


@dataclass(frozen=True)
class DiscoverySettings:
    """Which pods are workers.

    Attributes:
        selectors: The labels of the pods of each role; a pod that matches several roles has the first.
        port: The port of the worker on each pod.
        namespace: The pods' namespace; None for all.
        watch_secs: Seconds after which the API server should end a watch, to be renewed.
        timeout_secs: Seconds to wait for a response, or for the end of a watch beyond `watch_secs`.
        backoff: The waits before new requests after failures.
    """

    selectors: Mapping[Role, Labels]
    port: int = 80
    namespace: str | None = None
    watch_secs: float = 60
    timeout_secs: float = 15
    backoff: RetrySettings = field(
        default_factory=lambda: RetrySettings(initial_backoff_ms=200, max_backoff_ms=30_000, backoff_multiplier=2)
    )
