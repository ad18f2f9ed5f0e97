"""When a worker counts as healthy."""

import time
from collections import Counter
from dataclasses import dataclass

from router.config.flags import flag


@dataclass(frozen=True)
class HealthSettings:
    """How it is found out whether a worker can be sent requests."""

    failure_threshold: int = flag(
        "--health-failure-threshold",
        default=3,
        minimum=1,
        help_text="failed looks in a row that make a worker unhealthy",
    )
    success_threshold: int = flag(
        "--health-success-threshold", default=2, minimum=1, help_text="good looks in a row that make it healthy again"
    )
    timeout_secs: float = flag(
        "--health-check-timeout-secs",
        default=5,
        value_type=float,
        exclusive_minimum=0,
        help_text="seconds it may take to answer one",
    )
    interval_secs: float = flag(
        "--health-check-interval-secs",
        default=60,
        value_type=float,
        exclusive_minimum=0,
        help_text="seconds between health checks",
    )
    endpoint: str = flag("--health-check-endpoint", default="/health", help_text="path that says whether it is well")
    disable_checks: bool = flag(
        "--disable-health-check", default=False, help_text="look at a worker only until it was found"
    )
    probe_interval_secs: float = flag(
        "--worker-startup-check-interval",
        "--worker-probe-interval",
        default=5,
        value_type=float,
        exclusive_minimum=0,
        help_text="seconds between looks at a worker's /server_info, while it starts and later",
    )
    skip_warm_up: bool = flag(
        "--skip-warm-up", default=False, help_text="send requests to a pair that has not yet generated anything"
    )


class HealthTracker:
    """What looks at one worker have told.

    One failure alone proves nothing of a worker that was found; nor does one success after several.

    Attributes:
        ever_healthy: It was healthy at least once.
        outcomes: Looks so far, by `success` and `failure`.
    """

    def __init__(self, settings: HealthSettings, *, ever_healthy: bool) -> None:
        self._settings = settings
        self._healthy = self.ever_healthy = ever_healthy
        self._failures = 0
        self._successes = 0
        self._next_check = time.monotonic() + settings.interval_secs
        self.outcomes: Counter[str] = Counter()

    def record(self, *, well: bool, definite: bool) -> bool:
        """Whether the worker is healthy after one more look; a `definite` failure needs no second one."""
        self.outcomes["success" if well else "failure"] += 1
        if well:
            self._failures = 0
            self._successes += 1
            if not self.ever_healthy:
                self.health_checked()  # who answers at last is not asked at once how it is
            if not self.ever_healthy or self._successes >= self._settings.success_threshold:
                self._healthy = self.ever_healthy = True
        else:
            self._successes = 0
            self._failures += 1
            if definite or not self.ever_healthy or self._failures >= self._settings.failure_threshold:
                self._healthy = False
        return self._healthy

    @property
    def progress(self) -> str:
        """How far an unhealthy worker is on its way back."""
        return f"{self._successes} of {self._settings.success_threshold}"

    def health_check_due(self) -> bool:
        """Whether to ask the health endpoint with the next look."""
        return self.ever_healthy and time.monotonic() >= self._next_check

    def health_checked(self) -> None:
        """It was asked."""
        self._next_check = time.monotonic() + self._settings.interval_secs
