"""When a worker counts as healthy: thresholds, intervals, and the results of its probes so far."""

import time
from collections import Counter
from dataclasses import dataclass

from router.config.flags import flag


@dataclass(frozen=True)
class HealthSettings:
    """How workers are probed, and how many results in a row change their health."""

    failure_threshold: int = flag(
        "--health-failure-threshold",
        default=3,
        minimum=1,
        help_text="failed probes in a row that make a worker unhealthy",
    )
    success_threshold: int = flag(
        "--health-success-threshold",
        default=2,
        minimum=1,
        help_text="successful probes in a row that make it healthy again",
    )
    timeout_secs: float = flag(
        "--health-check-timeout-secs",
        default=5,
        value_type=float,
        exclusive_minimum=0,
        help_text="timeout of a probe in seconds",
    )
    interval_secs: float = flag(
        "--health-check-interval-secs",
        default=60,
        value_type=float,
        exclusive_minimum=0,
        help_text="seconds between health checks",
    )
    endpoint: str = flag("--health-check-endpoint", default="/health", help_text="path of the health check")
    disable_checks: bool = flag(
        "--disable-health-check", default=False, help_text="probe a worker only until it was healthy once"
    )
    probe_interval_secs: float = flag(
        "--worker-startup-check-interval",
        "--worker-probe-interval",
        default=5,
        value_type=float,
        exclusive_minimum=0,
        help_text="seconds between probes of a worker's /server_info, while it starts and later",
    )
    skip_warm_up: bool = flag(
        "--skip-warm-up", default=False, help_text="send requests to a pair that has not yet generated anything"
    )


class HealthTracker:
    """The results of the probes of one worker.

    A worker that was healthy once changes its health only after several equal results in a row. A new worker is
    healthy after its first successful probe.

    Attributes:
        settings: Thresholds and intervals.
        ever_healthy: Whether the worker was healthy at least once.
        outcomes: Number of probes by outcome, `success` or `failure`.
    """

    def __init__(self, settings: HealthSettings, *, ever_healthy: bool) -> None:
        self.settings = settings
        self._healthy = self.ever_healthy = ever_healthy
        self._consecutive_failures = 0
        self._consecutive_successes = 0
        self._next_health_check = time.monotonic() + settings.interval_secs
        self.outcomes: Counter[str] = Counter()

    def record(self, *, success: bool, conclusive: bool) -> bool:
        """Record a probe and return whether the worker is healthy now. A `conclusive` result counts at once."""
        self.outcomes["success" if success else "failure"] += 1
        if success:
            self._consecutive_failures = 0
            self._consecutive_successes += 1
            if not self.ever_healthy:
                self.health_check_done()  # a worker that has just come up needs no health check at once
            enough = self._consecutive_successes >= self.settings.success_threshold
            if conclusive or not self.ever_healthy or enough:
                self._healthy = self.ever_healthy = True
        else:
            self._consecutive_successes = 0
            self._consecutive_failures += 1
            if conclusive or not self.ever_healthy or self._consecutive_failures >= self.settings.failure_threshold:
                self._healthy = False
        return self._healthy

    @property
    def progress(self) -> str:
        """Successful probes of those that an unhealthy worker needs, as `1 of 2`."""
        return f"{self._consecutive_successes} of {self.settings.success_threshold}"

    def health_check_due(self) -> bool:
        """Whether the next probe also calls the health endpoint."""
        return self.ever_healthy and time.monotonic() >= self._next_health_check

    def health_check_done(self) -> None:
        """Schedule the next call of the health endpoint, one interval from now."""
        self._next_health_check = time.monotonic() + self.settings.interval_secs
