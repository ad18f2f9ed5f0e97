"""A circuit breaker: a worker that keeps failing gets no requests for a while, then one at a time.

closed ── failures in a row ──▶ open ── time passes ──▶ half-open ── successes ──▶ closed
                                 ▲──────── a failure ──────┘
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from router.config.flags import flag

State = Literal["closed", "open", "half_open"]
STATES: tuple[State, ...] = ("closed", "open", "half_open")


@dataclass(frozen=True)
class CircuitBreakerSettings:
    """When a breaker opens and closes."""

    failure_threshold: int = flag(
        "--cb-failure-threshold",
        default=10,
        minimum=1,
        help_text="failures in a row after which a worker gets no requests",
    )
    success_threshold: int = flag(
        "--cb-success-threshold", default=3, minimum=1, help_text="successes one after another that bring it back"
    )
    timeout_secs: float = flag(
        "--cb-timeout-duration-secs",
        default=60,
        value_type=float,
        exclusive_minimum=0,
        help_text="seconds until it is tried again",
    )
    window_secs: float = flag(
        "--cb-window-duration-secs",
        default=120,
        value_type=float,
        exclusive_minimum=0,
        help_text="seconds in which the failures must be",
    )
    disable_breaker: bool = flag("--disable-circuit-breaker", default=False, help_text="workers keep getting requests")


class CircuitBreaker:
    """One worker's breaker.

    A request that begins takes a ticket and settles it with its outcome. Tickets of an earlier state
    settle nothing: what was sent before the breaker opened says nothing about the worker since.

    Attributes:
        outcomes: Settled requests, by `success` and `failure`.
        transitions: Changes of state, by both states.
    """

    def __init__(
        self, settings: CircuitBreakerSettings | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings or CircuitBreakerSettings()
        self._clock = clock
        self._state: State = "closed"
        self._failures: deque[float] = deque(maxlen=self._settings.failure_threshold)
        self._successes = 0
        self._opened = 0.0
        self._ticket = 0
        self._trial = False  # one is under way
        self.outcomes: Counter[str] = Counter()
        self.transitions: Counter[tuple[State, State]] = Counter()

    @property
    def state(self) -> State:
        """The state now: an open breaker whose time has passed is half-open."""
        if self._state == "open" and self._clock() >= self._opened + self._settings.timeout_secs:
            self._enter("half_open")
        return self._state

    @property
    def streaks(self) -> tuple[int, int]:
        """Failures and successes in a row that count towards the next change."""
        return len(self._failures), self._successes

    @property
    def retry_after(self) -> float:
        """Seconds until it may let a request through; 0 when it does now."""
        return 0.0 if self.allows() else max(0.0, self._opened + self._settings.timeout_secs - self._clock()) or 1.0

    def allows(self) -> bool:
        """Whether a request may begin; half-open, one at a time may."""
        if self._state == "closed":
            return True
        return self.state == "half_open" and not self._trial

    def begin(self) -> int:
        """A ticket for a request that `allows` let through."""
        self._trial = self._state == "half_open"
        return self._ticket

    def settle(self, ticket: int, success: bool | None) -> None:
        """The outcome of a request; None when it says nothing of the worker."""
        if success is not None:
            self.outcomes["success" if success else "failure"] += 1
        if ticket != self._ticket or self._settings.disable_breaker:
            return
        self._trial = False
        if success:
            self._succeeded()
        elif success is not None:
            self._failed()

    def reset(self) -> None:
        """Close it: the worker is another process than the one that failed."""
        if self._state != "closed":
            self._enter("closed")
        self._failures.clear()

    def _succeeded(self) -> None:
        self._failures.clear()
        if self._state == "half_open":
            self._successes += 1
            if self._successes >= self._settings.success_threshold:
                self._enter("closed")

    def _failed(self) -> None:
        now = self._clock()
        self._failures.append(now)
        full = len(self._failures) == self._settings.failure_threshold
        if self._state == "half_open" or (full and self._failures[0] >= now - self._settings.window_secs):
            self._opened = now
            self._enter("open")

    def _enter(self, state: State) -> None:
        self.transitions[self._state, state] += 1
        self._state = state
        self._ticket += 1
        self._trial = False
        self._successes = 0
        if state == "closed":
            self._failures.clear()
