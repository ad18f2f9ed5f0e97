"""Whether a worker may get requests: what its probes, its requests and its operator said of it last."""

import time

from router.errors import ConnectFailed, RouterError
from router.workers.health import HealthSettings, HealthTracker

RECOVERY_SECONDS = 600.0  # how long a worker that was usable is expected back


class WorkerHealth:
    """The state of a worker. Others tell what happened; the state follows from that here alone.

    Args:
        url: The worker's address, for sentences.
        settings: How it is probed.
        needs_warm_up: Whether it gets requests only after a pair with it has generated something.
        healthy: Whether it is taken to be well before its first probe.

    Attributes:
        tracker: The results of its probes.
        healthy: Whether its probes say that it is well.
        problem: One sentence on why the worker is not usable, or on what is wrong with it nevertheless; None if there
            is nothing to say.
        away: Whether the last connection to it could not be opened: its process has ended, or has just begun.
        suspected: Whether a connection to it broke since the last probe.
        wedged: One sentence on how it takes requests and does not work; None as long as it does.
        warmed_up: Whether a pair with it has generated something since it became healthy.
        draining: Whether it is being removed: it gets no new requests, and those in flight may end.
        wants_key: Whether it tells nothing of itself, since it wants an API key and the router has none for it. It may
            get requests then, each with its client's key.
        restarts: Of its process, as far as they were noticed.
    """

    def __init__(self, url: str, settings: HealthSettings, *, needs_warm_up: bool = False, healthy: bool = False):
        self._url = url
        self.tracker = HealthTracker(settings, ever_healthy=healthy)
        self.healthy = healthy
        self.problem: str | None = None
        self.away = False
        self.suspected = False
        self.wedged: str | None = None
        self.warmed_up = False
        self.draining = False
        self.wants_key = False
        self.restarts = 0
        self._needs_warm_up = needs_warm_up
        self._last_usable: float | None = None  # `time.monotonic`; None if it never was
        self._check_notice: str | None = None  # from the last health check
        self._key_notice: str | None = None  # from the last probe

    @property
    def settings(self) -> HealthSettings:
        """How it is probed."""
        return self.tracker.settings

    @property
    def usable(self) -> bool:
        """Whether it may get requests, apart from its circuit breaker."""
        warm = self.warmed_up or not self._needs_warm_up or self.wants_key
        return warm and self.present and self.wedged is None

    @property
    def present(self) -> bool:
        """Whether it is well, can be connected to and stays, whatever it has done since it began."""
        return self.healthy and not self.away and not self.draining

    @property
    def recovering(self) -> bool:
        """Whether it was usable within the last `RECOVERY_SECONDS`, and may soon be again: perhaps it restarts."""
        if self.draining or self._last_usable is None or self.usable:
            return False
        return time.monotonic() < self._last_usable + RECOVERY_SECONDS

    @property
    def untried(self) -> bool:
        """Whether it answers again after it was usable before, and has generated nothing since."""
        return self.present and not self.warmed_up and self._last_usable is not None

    # What requests, the warm-up, the operator and other processes tell.

    def connection_failed(self, error: RouterError) -> None:
        """A request found no connection to the worker, or lost it."""
        self._note_if_usable()
        self.suspected = True
        self.away = self.away or isinstance(error, ConnectFailed)

    def does_not_work(self, problem: str) -> None:
        """It takes requests and does not work."""
        self._note_if_usable()
        self.wedged = self.problem = problem

    def works_again(self) -> None:
        """It works; other problems the next probe tells again."""
        self.wedged = self.problem = None

    def generated(self) -> None:
        """A pair with it has generated something."""
        self.warmed_up = True

    def warm_up_failed(self, problem: str) -> None:
        """A pair with it failed to generate something."""
        if not self.warmed_up:
            self.problem = problem

    def expect(self) -> None:
        """Take it as warmed up and as used until now: other processes use it already."""
        self.warmed_up = True
        self._last_usable = time.monotonic()

    def drain(self, *, draining: bool = True) -> None:
        """Let it get no new requests; or let it get some again."""
        self.draining = draining

    # What the probe tells, in this order.

    def begin_probe(self) -> bool:
        """Returns whether a probe is wanted at all."""
        self.suspected = False
        if self.tracker.ever_healthy and self.settings.disable_checks and not self.away:
            return False
        self._note_if_usable()
        return True

    @property
    def may_be_back(self) -> bool:
        """Whether it was well once, and could not be connected to last."""
        return self.away and self.tracker.ever_healthy

    def back(self) -> None:
        """A connection could be opened again: another process of the same server, until the next probe tells more."""
        self.away, self.suspected = False, True

    def checked(self, notice: str | None) -> None:
        """Its health endpoint says that it is well; `notice` is a sentence to tell nevertheless."""
        self._check_notice = notice
        self.tracker.health_check_done()

    def unanswered(self, error: RouterError) -> None:
        """The probe failed; one that only took too long tells nothing of the connection."""
        self.away = isinstance(error, ConnectFailed)

    def leave_key_to_clients(self, notice: str) -> None:
        """It wants a key that only clients have, as this sentence says."""
        self.wants_key, self._key_notice = True, notice

    def answered(self) -> bool:
        """The probe was answered; returns whether the worker was away before."""
        self.wants_key, self._key_notice = False, None
        was_away, self.away = self.away, False
        return was_away

    def begin_anew(self) -> None:
        """Forget what was learnt of the process that served before."""
        self.restarts += 1
        self.warmed_up = False
        self.wedged = None

    def end_probe(self, problem: str | None, *, conclusive: bool) -> bool:
        """Draw the conclusion of a probe, whose `problem` is None if it succeeded; returns whether it became healthy.

        A `conclusive` result counts at once.
        """
        was_healthy = self.healthy
        self.healthy = self.tracker.record(success=problem is None, conclusive=conclusive)
        self.problem = problem or self.wedged or self._key_notice or self._check_notice
        if not self.healthy:
            self.warmed_up = False
            self.problem = problem or f"{self._url} is back; {self.tracker.progress} probes of it were good."
        return self.healthy and not was_healthy

    def _note_if_usable(self) -> None:
        if self.usable:
            self._last_usable = time.monotonic()
