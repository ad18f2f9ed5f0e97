"""What is watched, and how patiently."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from router.dispatch.retries import RetrySettings
from router.service_discovery.labels import Labels
from router.workers.worker import Role


@dataclass(frozen=True)
class DiscoverySettings:
    """Which pods are workers.

    Attributes:
        selectors: The labels that pods of each role have; a pod with those of several has the first role.
        port: The port of the worker on each pod.
        namespace: The pods' namespace; None is all.
        watch_secs: Seconds after which the API server shall end a watch, to be renewed.
        late_secs: Seconds that it may be late with that, or with the answer to anything else; then it is away.
        backoff: How long is waited before it is asked again after a failure.
    """

    selectors: Mapping[Role, Labels]
    port: int = 80
    namespace: str | None = None
    watch_secs: float = 60
    late_secs: float = 15
    backoff: RetrySettings = field(
        default_factory=lambda: RetrySettings(initial_backoff_ms=200, max_backoff_ms=30_000, backoff_multiplier=2)
    )
