"""A circuit breaker: a worker that keeps failing gets no requests for a while, then one at a time.

closed ── consecutive failures ──▶ open ── timeout ──▶ half-open ── consecutive successes ──▶ closed
                                    ▲────── a failure ─────┘
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from router.config.flags import flag

BreakerState = Literal["closed", "open", "half_open"]
BREAKER_STATES: tuple[BreakerState, ...] = ("closed", "open", "half_open")
FIRST_TRIAL_SECS = 1.0  # until the router itself tries a worker whose breaker has opened; doubles each time


@dataclass(frozen=True)
class CircuitBreakerSettings:
    """When a circuit breaker opens and closes."""

    failure_threshold: int = flag(
        "--cb-failure-threshold",
        default=10,
        minimum=1,
        help_text="failures in a row after which a worker gets no requests",
    )
    success_threshold: int = flag(
        "--cb-success-threshold", default=3, minimum=1, help_text="successes in a row that close the breaker"
    )
    timeout_secs: float = flag(
        "--cb-timeout-duration-secs",
        default=60,
        value_type=float,
        exclusive_minimum=0,
        help_text="seconds until an open breaker lets a request through",
    )
    window_secs: float = flag(
        "--cb-window-duration-secs",
        default=120,
        value_type=float,
        exclusive_minimum=0,
        help_text="seconds within which the failures must fall",
    )
    disable_breaker: bool = flag(
        "--disable-circuit-breaker", default=False, help_text="failing workers keep getting requests"
    )


class CircuitBreaker:
    """The circuit breaker of one worker.

    `begin_request` returns a generation, which `record_outcome` takes back with the request's outcome. The generation
    grows with each change of state; outcomes of requests from an older generation change no state.

    Attributes:
        outcomes: Number of requests by outcome, `success` or `failure`.
        transitions: Number of state changes, by old and new state.
        readmissions: How often it closed because the worker was restarted.
    """

    def __init__(
        self, settings: CircuitBreakerSettings | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings or CircuitBreakerSettings()
        self._clock = clock
        self._state: BreakerState = "closed"
        self._failure_times: deque[float] = deque(maxlen=self._settings.failure_threshold)
        self._trial_delay = FIRST_TRIAL_SECS
        self._successes = 0
        self._opened_at = 0.0
        self._generation = 0
        self._trial_in_flight = False
        self.outcomes: Counter[str] = Counter()
        self.transitions: Counter[tuple[BreakerState, BreakerState]] = Counter()
        self.readmissions = 0

    @property
    def state(self) -> BreakerState:
        """The current state. An open breaker becomes half-open once its timeout has passed."""
        if self._state == "open" and self._clock() >= self._opened_at + self._settings.timeout_secs:
            self._transition("half_open")
        return self._state

    @property
    def consecutive_failures(self) -> int:
        """Failures in a row, at most the threshold."""
        return len(self._failure_times)

    @property
    def consecutive_successes(self) -> int:
        """Successes in a row while half-open."""
        return self._successes

    @property
    def retry_after(self) -> float:
        """Seconds until the breaker may let a request through; 0 if it does now."""
        return 0.0 if self.allows() else max(0.0, self._opened_at + self._settings.timeout_secs - self._clock()) or 1.0

    def allows(self) -> bool:
        """Whether a request may be sent now. While half-open, one request at a time may."""
        if self._state == "closed":
            return True
        return self.state == "half_open" and not self._trial_in_flight

    def begin_trial(self) -> bool:
        """Whether the router should try the worker with a generation of its own; an open breaker becomes half-open.

        The first trial is a second after the breaker opened. A worker that fails again soon is tried again after
        twice the time, at most after the breaker's timeout.
        """
        if self._state == "open" and self._clock() >= self._opened_at + self._trial_delay:
            self._transition("half_open")
        return self._state == "half_open" and not self._trial_in_flight

    def begin_request(self) -> int:
        """Count a request that `allows` let through. Returns the generation to pass to `record_outcome`."""
        self._trial_in_flight = self._state == "half_open"
        return self._generation

    def record_outcome(self, generation: int, success: bool | None) -> None:
        """Record how a request ended. `success` is None if the outcome says nothing about the worker."""
        if success is not None:
            self.outcomes["success" if success else "failure"] += 1
        if generation != self._generation or self._settings.disable_breaker:
            return
        self._trial_in_flight = False
        if success:
            self._on_success()
        elif success is not None:
            self._on_failure()

    def reset(self) -> None:
        """Close the breaker: the worker was restarted since it failed."""
        if self._state != "closed":
            self.readmissions += 1
            self._transition("closed")
        self._failure_times.clear()
        self._trial_delay = FIRST_TRIAL_SECS

    def _on_success(self) -> None:
        self._failure_times.clear()
        if self._state == "half_open":
            self._successes += 1
            if self._successes >= self._settings.success_threshold:
                self._transition("closed")

    def _on_failure(self) -> None:
        now = self._clock()
        self._failure_times.append(now)
        threshold_reached = len(self._failure_times) == self._settings.failure_threshold
        if self._state == "half_open" or (
            threshold_reached and self._failure_times[0] >= now - self._settings.window_secs
        ):
            reopened = self._opened_at and now < self._opened_at + self._trial_delay + self._settings.window_secs
            self._trial_delay = min(
                2 * self._trial_delay if reopened else FIRST_TRIAL_SECS, self._settings.timeout_secs
            )
            self._opened_at = now
            self._transition("open")

    def _transition(self, state: BreakerState) -> None:
        self.transitions[self._state, state] += 1
        self._state = state
        self._generation += 1
        self._trial_in_flight = False
        self._successes = 0
        if state == "closed":
            self._failure_times.clear()
